"""Files that are compressed as a whole."""

import bz2
import gzip

import pytest

from astrotriton.detection.errors import InputError, TooLargeError
from astrotriton.detection.image.compression import decompressed

CONTENT = bytes(range(256)) * 100
COMPRESS = {"gzip": gzip.compress, "bzip2": bz2.compress}


@pytest.fixture(params=COMPRESS)
def compress(request):
    return COMPRESS[request.param]


def test_every_member_belongs_to_the_file(compress):
    parts = CONTENT[:1000], CONTENT[1000:1001], CONTENT[1001:]
    assert decompressed(b"".join(map(compress, parts)), len(CONTENT)) == CONTENT


def test_what_is_not_compressed_stays_as_it_is():
    assert decompressed(CONTENT, 1) is CONTENT


def test_padding_after_the_last_member_is_ignored(compress):
    assert decompressed(compress(CONTENT) + bytes(512), len(CONTENT)) == CONTENT


def test_the_bound_is_for_all_members_together(compress):
    with pytest.raises(TooLargeError, match="once decompressed"):
        decompressed(compress(CONTENT) * 2, 2 * len(CONTENT) - 1)


def test_a_bomb_is_given_up_at_the_bound(compress):
    with pytest.raises(TooLargeError):
        decompressed(compress(bytes(50_000_000)), 1000)


@pytest.mark.parametrize("members", [1, 2])
def test_a_file_that_ends_too_early_is_refused(compress, members):
    with pytest.raises(InputError, match="ends too early") as caught:
        decompressed((compress(CONTENT) * members)[:-20], 10**6)
    assert caught.value.code == "unreadable-fits"


def test_a_broken_file_is_refused(compress):
    content = bytearray(compress(CONTENT))
    content[20:60] = bytes(40)
    with pytest.raises(InputError, match="broken"):
        decompressed(bytes(content), 10**6)
