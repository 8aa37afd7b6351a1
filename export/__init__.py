"""From the MLflow registry to a Triton model repository: resolve, convert, check, publish.

The only room that imports TensorFlow, and only inside functions: it takes ten seconds to import,
and a version that is published already needs none of it.
"""

import os

# TensorFlow reads this once, when it is imported; without it, it narrates its start on stderr.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
