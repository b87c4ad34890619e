"""What requests and answers look like, as pydantic models: what `/openapi.json` is made from, and the first
check that a body passes. What a field means, and its range, the engine checks.
"""
