"""A client of the service: what `csv-export` does against a server by URL.

It knows the HTTP interface and nothing else of the service.
"""
