"""The commands of `csv-export` that use a running service, given by its URL.

They use the HTTP interface of the service and no other part of it.
"""
