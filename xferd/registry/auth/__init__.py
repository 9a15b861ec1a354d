"""
Credentials and tokens: where a client's credentials come from, what a registry
demands, and the tokens that token servers issue for them.
"""
