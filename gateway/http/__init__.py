"""What every HTTP request and answer shares: bodies, formats, middleware, the OpenAPI document."""
