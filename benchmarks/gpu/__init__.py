"""One prepared run on a machine with a GPU: packed here, unpacked and measured there."""
