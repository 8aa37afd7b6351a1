#!/bin/sh
# Makes a TensorRT plan of a published version, on the GPU that it will be served on: a plan belongs
# to one kind of GPU and one TensorRT. Run it in the Triton container whose TensorRT will load it:
#
#     build-plan.sh REPOSITORY/NAME/VERSION PLANS [LARGEST_BATCH]
#
# It writes PLANS/NAME/VERSION/model.plan, golden.npz and card.json. The config.pbtxt is the
# version's own with `backend: "tensorrt"`; the golden tile decides whether it may serve, as always.
set -eu
version=${1%/}
largest=${3:-32}
out=$2/$(basename "$(dirname "$version")")/$(basename "$version")
tile=$(python3 -c '
import json, sys
spec = json.load(open(sys.argv[1]))["input"]
print(spec["name"], "x".join(map(str, spec["shape"][1:])))' "$version/card.json")
name=${tile% *}
shape=${tile#* }
mkdir -p "$out"
trtexec --onnx="$version/model.onnx" --fp16 \
  --minShapes="$name:1x$shape" \
  --optShapes="$name:8x$shape" \
  --maxShapes="$name:${largest}x$shape" \
  --saveEngine="$out/.model.plan-part"
cp "$version/card.json" "$version/golden.npz" "$out/"
mv "$out/.model.plan-part" "$out/model.plan"
