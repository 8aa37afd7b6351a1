"""While a newer release is rolled out, its schema is there before its gateways are."""

import asyncpg

from astrotriton.gateway.storage.migrate import head


async def test_a_gateway_works_on_with_a_newer_schema_but_not_with_an_older_one(client, database):
    assert (await client.get("/health/ready")).status_code == 200
    connection = await asyncpg.connect(database)
    try:
        for revision, status in (("9999", 200), ("0001", 503), (head(), 200)):
            await connection.execute("UPDATE alembic_version SET version_num = $1", revision)
            ready = await client.get("/health/ready")
            assert ready.status_code == status, ready.text
    finally:
        await connection.close()
