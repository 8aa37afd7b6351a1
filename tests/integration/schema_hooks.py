"""What schemathesis sends as a file: exposures that can be scored, beside what it invents."""

import schemathesis
from hypothesis import strategies as st

from tests.integration.mutants import seeds

schemathesis.openapi.media_type(
    "application/octet-stream", st.one_of(st.sampled_from(seeds()), st.binary(max_size=100))
)
