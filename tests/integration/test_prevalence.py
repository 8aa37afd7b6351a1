"""A confidence that follows a survey: its share of real sources, and what people said of it."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from scipy.special import expit, logit

from astrotriton.cli import main
from astrotriton.client import AsyncClient, InferRequest
from astrotriton.detection.card import UNetModel
from astrotriton.export.gateway_routes import Gateway
from astrotriton.gateway.rpc import detections_pb2 as pb
from astrotriton.gateway.rpc.detections_pb2_grpc import DetectionsStub
from astrotriton.gateway.settings import GatewaySettings
from tests.integration.gateway_parts import NAME, ROOT, exposure, free_port, infer, npy, serve

CALIBRATED, TRUTH = 0.1, 0.004
RUNS, EACH = 40, 250


@pytest.fixture
def calibrated(model_repository: Path, tmp_path: Path) -> Path:
    """The reference network's confidence in the card of version 3; none in that of the others."""
    copy = shutil.copytree(model_repository, tmp_path / "repository")
    reference = UNetModel.from_json((ROOT / "astrotriton/training/weights/card.json").read_bytes())
    path = copy / NAME / "3/card.json"
    known = msgspec.structs.replace(reference.confidence, prevalence=CALIBRATED)
    card = msgspec.structs.replace(UNetModel.from_json(path.read_bytes()), confidence=known)
    path.write_bytes(card.to_json())
    return copy


async def store_a_survey(database: str, run_id: str, shift: float) -> None:
    """Copy a run many times, with detections of which `TRUTH` are real, 4 sigma from the others."""
    rng = np.random.default_rng(8)
    connection = await asyncpg.connect(database)
    try:
        for _ in range(RUNS):
            real = rng.random(EACH) < TRUTH
            ratios = 4.0 * rng.normal(np.where(real, 2.0, -2.0))
            confidences = expit(ratios + logit(CALIBRATED) + shift)
            await connection.execute(
                """
                WITH copied AS (
                    INSERT INTO runs
                    SELECT (jsonb_populate_record(
                        r, jsonb_build_object('id', gen_random_uuid(), 'detections', $2::int)
                    )).* FROM runs r WHERE id = $1 RETURNING id
                )
                INSERT INTO detections
                SELECT (jsonb_populate_record(d, jsonb_build_object(
                    'id', gen_random_uuid(), 'run_id', copied.id, 'rank', place,
                    'confidence', sure, 'label', null, 'candidate_id', null
                ))).*
                FROM copied, unnest($3::double precision[]) WITH ORDINALITY AS given (sure, place),
                detections d WHERE d.run_id = $1 AND d.rank = 1
                """,
                run_id,
                EACH,
                confidences.tolist(),
            )
    finally:
        await connection.close()


def best(run: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = run["detections"][0]
    return found


async def test_confidences_follow_the_share_of_real_sources(
    settings: GatewaySettings, calibrated: Path, database: str
) -> None:
    settings = settings.model_copy(
        update={"model_repository": str(calibrated), "grpc_port": free_port()}
    )
    async with serve(settings) as client:
        asked = {"model_version": 3}
        plain = (await infer(client, npy(exposure()), asked)).json()
        assert plain["prevalence"] is None

        # A request, over HTTP and gRPC, by the client, and what it is told afterwards.
        stated = (await infer(client, npy(exposure()), asked | {"prevalence": 0.001})).json()
        assert (stated["prevalence"]["share"], stated["prevalence"]["source"]) == (0.001, "request")
        shift = stated["prevalence"]["shift"]
        assert shift == pytest.approx(logit(0.001) - logit(CALIBRATED))
        for end in ("confidence", "confidence_low", "confidence_high"):
            assert logit(best(stated)[end]) == pytest.approx(logit(best(plain)[end]) + shift)
        kept = (await client.get(f"/runs/{stated['run_id']}")).json()["result"]
        assert kept["prevalence"] == stated["prevalence"]
        where = f"/detections/{best(stated)['id']}/confidence"
        told = (await client.get(where)).json()
        assert told["derivation"]["prevalence"] == told["prevalence"] == stated["prevalence"]
        assert told["derivation"]["confidence"] == pytest.approx(best(stated)["confidence"])
        address = f"127.0.0.1:{settings.grpc_port}"
        async with grpc.aio.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
            answer = await DetectionsStub(channel).Infer(
                pb.InferRequest(
                    exposure=npy(exposure()),
                    model_version=pb.Model(version=3),
                    prevalence=pb.AskedPrevalence(share=0.001),
                )
            )
        assert answer.run.prevalence.shift == pytest.approx(shift)
        assert not answer.run.prevalence.HasField("estimate")
        assert answer.detections[0].confidence == pytest.approx(best(stated)["confidence"])

        # Too little is stored; a card that does not know its share; no share at all.
        for given, code in (
            ({"prevalence": "estimated"}, "prevalence-unknown"),
            ({"prevalence": 0.1, "tta": True}, "prevalence-unusable"),
            ({"prevalence": 0.0}, "invalid-request"),
            ({"prevalence": "guessed"}, "invalid-request"),
        ):
            refused = await infer(client, npy(exposure()), asked | given)
            assert refused.status_code == 422, refused.text
            assert refused.json()["type"].endswith(code)

        # Runs of any share say what the survey's is.
        await store_a_survey(database, plain["run_id"], 0.0)
        await store_a_survey(database, stated["run_id"], shift)
        run = (await infer(client, npy(exposure()), asked | {"prevalence": "estimated"})).json()
        rests_on = run["prevalence"]["estimate"]
        assert rests_on["exposures"] >= 2 * RUNS
        assert rests_on["sources"] >= 2 * RUNS * EACH
        assert rests_on["low"] < TRUTH * 1.3
        assert rests_on["high"] > TRUTH / 1.3
        assert run["prevalence"]["error"] > 0.0

        # A route.
        async with AsyncClient(str(client.base_url)) as astrotriton:
            where = f"/models/{NAME}/prevalence"
            assert (await client.put(where, json={"prevalence": 0.1})).status_code == 404
            await astrotriton.set_route(NAME, 3)
            said = await astrotriton.set_prevalence(NAME, "estimated")
            assert said.prevalence == "estimated"
            assert said.estimates[0].share == pytest.approx(rests_on["share"], rel=0.2)
            assert (await astrotriton.route(NAME)).prevalence == "estimated"
            routed = await astrotriton.score(npy(exposure()))
            assert routed.prevalence is not None
            assert routed.prevalence.source == "route"
            alone = await astrotriton.score(npy(exposure()), InferRequest(prevalence="calibrated"))
            assert alone.prevalence is None
            # As `promote --prevalence` does it.
            routes = Gateway(str(client.base_url))
            await asyncio.to_thread(routes.set_prevalence, NAME, 0.02)
            assert (await astrotriton.prevalence(NAME)).prevalence == 0.02
            await asyncio.to_thread(routes.set_prevalence, NAME, "estimated")
            # Without an estimate for candidates that are sent, it says so.
            here = {"candidates": [{"x": best(plain)["x"], "y": best(plain)["y"]}]}
            sent = (await infer(client, npy(exposure()), here)).json()
            assert sent["prevalence"] is None
            assert "prevalence_not_used" in sent["flags"]
        page = await client.get(f"/dashboard/detections/{routed.detections[0].id}")
        assert "has this estimated" in page.text


LABELLED_RUNS, LABELLED_EACH, WRONG_BY = 8, 60, -2.5


async def store_labels(database: str, run_id: str, card: UNetModel) -> None:
    """Copy a run with sources that are real less often than their confidence says, labelled."""
    rng = np.random.default_rng(9)
    model = card.confidence
    assert model is not None
    connection = await asyncpg.connect(database)
    try:
        for _ in range(LABELLED_RUNS):
            table = np.tile(np.array(model.mean), (LABELLED_EACH, 1))
            table[:, 0] += rng.normal(8.0, 4.0, LABELLED_EACH)
            logits = model.logits((table - np.array(model.mean)) / np.array(model.scale))
            real = rng.random(LABELLED_EACH) < expit(logits + WRONG_BY)
            run = await connection.fetchval(
                """
                INSERT INTO runs SELECT (jsonb_populate_record(r, jsonb_build_object(
                    'id', gen_random_uuid(), 'detections', $2::int,
                    'exposure_digest', encode(sha256(gen_random_uuid()::text::bytea), 'hex')
                ))).* FROM runs r WHERE id = $1 RETURNING id
                """,
                run_id,
                LABELLED_EACH,
            )
            await connection.executemany(
                """
                INSERT INTO detections SELECT (jsonb_populate_record(d, jsonb_build_object(
                    'id', gen_random_uuid(), 'run_id', $2::uuid, 'rank', $3::int,
                    'candidate_id', null,
                    'confidence', $4::double precision, 'label', $5::text,
                    'features', to_jsonb($6::double precision[])
                ))).* FROM detections d WHERE d.run_id = $1 AND d.rank = 1
                """,
                [
                    (run_id, run, rank + 1, float(expit(logit)), label, values.tolist())
                    for rank, (logit, values, label) in enumerate(
                        zip(logits, table, np.where(real, "real", "artefact"), strict=True)
                    )
                ],
            )
    finally:
        await connection.close()


async def command(*given: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, ["recalibrate", *given])


async def test_a_confidence_is_fitted_anew_to_labels(
    settings: GatewaySettings, calibrated: Path, database: str, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"model_repository": str(calibrated)})
    card = UNetModel.from_json((calibrated / NAME / "3/card.json").read_bytes())
    async with serve(settings) as client:
        url = ("--url", str(client.base_url))
        run = (await infer(client, npy(exposure()), {"model_version": 3})).json()
        best_id = best(run)["id"]
        await client.patch(f"/detections/{best_id}", json={"label": "real"})
        refused = await command(f"{NAME}:3", *url)
        assert refused.exit_code == 1
        assert "1 labels: 50 at least are needed" in refused.output

        await store_labels(database, run["run_id"], card)
        told = await command(f"{NAME}:3", *url, "--json")
        assert told.exit_code == 0, told.output
        found = json.loads(told.stdout)
        labels = LABELLED_RUNS * LABELLED_EACH
        plain = found["confidence"]
        assert plain["changes"] == "shift"
        assert (plain["labels"], plain["exposures"]) == (labels + 1, LABELLED_RUNS + 1)
        assert plain["log_loss_gain"] > 2.0 * plain["log_loss_gain_error"]
        assert plain["after"]["ece"] < plain["before"]["ece"]
        assert found["version"] is None

        # A table says the same; what it says of no detection is told.
        rows = (await client.get("/detections/?label=artefact&limit=1000&columns=id")).json()
        rows = [(one["id"], "bogus") for one in rows["detections"]]
        more = (await client.get("/detections/?label=real&limit=1000&columns=id")).json()
        rows += [(one["id"], "real") for one in more["detections"]]
        rows.append(("019ac5b0-6f0e-7c11-9d0a-2f4f1d9e7b52", "real"))
        table = tmp_path / "labels.csv"
        table.write_text("detection_id,label\n" + "".join(f"{i},{said}\n" for i, said in rows))
        told = await command(f"{NAME}:3", *url, "--json", "--labels", str(table))
        again = json.loads(told.stdout)
        assert again["confidence"]["labels"] == plain["labels"]
        assert again["passed_over"] == 1
        # By place, of the newest run of an exposure or of the one that is named.
        x, y = best(run)["x"], best(run)["y"]
        table.write_text(
            f"run_id,x,y,label\n{run['run_id']},{x + 0.5},{y},1\n{run['run_id']},{x + 9},{y},1\n"
        )
        told = await command(f"{NAME}:3", *url, "--labels", str(table))
        assert "1 labels: 50 at least are needed" in told.output
        table.write_text("id,verdict\n")
        told = await command(f"{NAME}:3", *url, "--labels", str(table))
        assert told.exit_code == 1
        assert "has no column label or real" in told.output
