"""MLflow's messages: which are believed, and what they have promoted."""

import json
import threading
import time
from uuid import uuid4

import httpx
import pytest
from mlflow.webhooks.delivery import _generate_hmac_signature

from astrotriton.export.webhook import (
    LARGEST,
    TOLERANCE,
    AliasSet,
    Listener,
    Receiver,
    RefusedError,
)

SECRET = "a secret of the tests"
NAME = "unet v1.2"


def body(**changes) -> bytes:
    data = {"name": NAME, "alias": "candidate", "version": "7"} | changes.pop("data", {})
    said = {"entity": "model_version_alias", "action": "created", "data": data} | changes
    return json.dumps(said).encode()


def signed(content: bytes, *, secret=SECRET, at=None, delivery=None) -> dict[str, str]:
    sent = str(int(time.time() if at is None else at))
    delivery = delivery or str(uuid4())
    return {
        "X-MLflow-Delivery-Id": delivery,
        "X-MLflow-Timestamp": sent,
        "X-MLflow-Signature": _generate_hmac_signature(secret, delivery, sent, content.decode()),
    }


@pytest.fixture
def receiver() -> Receiver:
    return Receiver(secret=SECRET, name="unet_v1.2", alias="candidate")


def test_what_mlflow_signed_is_believed(receiver):
    assert receiver.receive(signed(body()), body()) == AliasSet(NAME, 7)


@pytest.mark.parametrize(
    "made",
    [
        lambda: {},
        lambda: signed(body(), secret="another"),
        lambda: signed(body(data={"version": "8"})),
        lambda: signed(body()) | {"X-MLflow-Signature": "v1,not base64"},
        lambda: signed(body()) | {"X-MLflow-Signature": "v2,AAAA"},
        lambda: signed(body()) | {"X-MLflow-Timestamp": str(int(time.time()) + 1)},
        lambda: signed(body(), at=time.time() - TOLERANCE - 5),
        lambda: signed(body(), at=time.time() + TOLERANCE + 60),
    ],
)
def test_what_it_did_not_sign_or_long_ago_is_refused(receiver, made):
    # A message is young only for a while: not made before the test is run.
    headers = made()
    with pytest.raises(RefusedError) as refused:
        receiver.receive(headers, body())
    assert refused.value.status == 401


def test_each_message_counts_once(receiver):
    headers = signed(body())
    receiver.receive(headers, body())
    with pytest.raises(RefusedError, match="came before"):
        receiver.receive(headers, body())
    assert receiver.receive(signed(body()), body()) is not None
    receiver.forget(headers)
    assert receiver.receive(headers, body()) is not None


@pytest.mark.parametrize(
    "content",
    [
        body(action="deleted"),
        body(entity="model_version_tag"),
        body(data={"alias": "champion"}),
        body(data={"name": "another"}),
    ],
)
def test_other_messages_are_of_no_concern(receiver, content):
    assert receiver.receive(signed(content), content) is None


@pytest.mark.parametrize("content", [b"[]", b"{", body(data={"version": "../7"})])
def test_what_is_no_message_is_refused(receiver, content):
    with pytest.raises(RefusedError) as refused:
        receiver.receive(signed(content), content)
    assert refused.value.status == 400


def test_versions_are_promoted_one_after_another_and_a_failure_stops_nothing(receiver):
    promoted, done = [], threading.Event()

    def promote(told: AliasSet) -> None:
        promoted.append(told.version)
        if told.version == 7:
            raise RuntimeError("it fails")
        done.set()

    listener = Listener(("127.0.0.1", 0), receiver, promote)
    serving = threading.Thread(target=listener.run)
    serving.start()
    url = f"http://127.0.0.1:{listener.port}/"
    try:
        with httpx.Client(trust_env=False) as client:
            for version in ("7", "8"):
                content = body(data={"version": version})
                assert client.post(url, content=content, headers=signed(content)).status_code == 202
            other = body(action="deleted")
            assert client.post(url, content=other, headers=signed(other)).status_code == 200
            assert client.post(url, content=body()).status_code == 401
            assert client.post(url, content=bytes(LARGEST + 1)).status_code == 413
            assert client.get(url).status_code == 501
        assert done.wait(30)
    finally:
        listener.stop()
        serving.join()
    assert promoted == [7, 8]
