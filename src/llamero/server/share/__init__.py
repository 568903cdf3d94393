"""The models of this machine for others: the reading half of the registry standard under `/v2/`.

It writes nothing and knows no paths but those of blobs that a manifest lists. Stock clients pull from it, and so do
other servers of ours. Source: store-registry §3, GAP-12; security §6.3; OCI distribution specification, "Pull".
"""

from .access import Access
from .fetches import Fetch, fetch_nothing
from .handlers import Share, routes
from .keys import ShareKeys

__all__ = ["Access", "Fetch", "Share", "ShareKeys", "fetch_nothing", "routes"]
