// Scores an exposure with the client that hey-api has generated, looks the run up again and fetches
// a picture of it.
import { readFile } from "node:fs/promises";

import { client } from "./generated/client.gen.js";
import { getCutout, getRun, infer } from "./generated/sdk.gen.js";

const [gateway, key, file] = process.argv.slice(2);
client.setConfig({ baseUrl: gateway, auth: key, throwOnError: true });

const exposure = new Blob([await readFile(file!)]);
const request = { candidates: [{ id: "one", x: 60.0, y: 50.0 }], confidence_threshold: 0.5 };
const { data: run } = await infer({ body: { exposure, request }, throwOnError: true });
if (run === undefined || !("detections" in run)) throw new Error("no answer, or in the background");

const stored = await getRun({ path: { run_id: run.run_id }, throwOnError: true });
if (typeof stored.data === "string") throw new Error("the run is no JSON");
const picture = await getCutout({
  path: { detection_id: run.detections[0]!.id },
  throwOnError: true,
});
const bytes = new Uint8Array(await picture.data.arrayBuffer());

console.log(
  JSON.stringify({
    real: run.detections.filter((one) => one.is_real).map((one) => [one.x, one.y]),
    candidates: run.detections.map((one) => one.candidate_id ?? null),
    status: stored.data.status,
    picture: Array.from(bytes.slice(1, 4), (byte) => String.fromCharCode(byte)).join(""),
  }),
);
