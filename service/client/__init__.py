"""A client of the service: what `python -m service` does against a server by URL.

It knows the HTTP interface and nothing else of the service.
"""
