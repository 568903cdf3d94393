"""OpenAI's API at `/v1`: chat completions, completions, embeddings, models. Pure. The Responses API is its neighbour.

Each `read_…` makes a request of `messages` and a small record of what only this dialect needs; each writer makes bytes.
Ids, times and fetched pictures come in as arguments. Source: compat-api §1 to §7.
"""
