"""The service: exposures in over HTTP, scored detections out, kept in PostgreSQL, told on NATS.

Handlers only translate between HTTP and services; services hold the logic; `storage` and `triton`
talk to the outside. No TensorFlow here: the network runs in Triton.
"""
