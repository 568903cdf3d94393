"""Where models come from when they are not here yet: registries, and the package index for the starters.

Nothing here decides where a name leads; it fetches into the store and reports. Source: store-registry §3, §4.
"""
