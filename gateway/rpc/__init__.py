"""gRPC: the same services as over HTTP, for clients that would rather not encode JSON.

``*_pb2*`` are made of `proto/astrotriton/v1/detections.proto` by

    python -m grpc_tools.protoc -Iastrotriton/gateway/rpc=proto/astrotriton/v1 \
        --python_out=. --pyi_out=. --grpc_python_out=. astrotriton/gateway/rpc/detections.proto
"""
