"""
xferd as a registry: the OCI distribution-spec's API over the store, and a
pull-through mirror of upstream registries.
"""
