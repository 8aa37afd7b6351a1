"""The service: exposures in over HTTP, scored detections out, kept in PostgreSQL, told on NATS.

Handlers only translate between HTTP and services; services hold the logic; `storage` keeps what
they tell it in PostgreSQL, and `backends` talks to Triton, object stores, the issuer and MLflow.
No TensorFlow here: the network runs in Triton.
"""
