"""Power cuts, and whether what was answered before them is there afterwards.

``python -m benchmarks.power`` cuts the power of PostgreSQL, NATS and the S3 store again and again
under load. `disks` has the cut, `servers` the servers that it meets, `load` what asks them, and
`trial` the promises that are looked at.
"""
