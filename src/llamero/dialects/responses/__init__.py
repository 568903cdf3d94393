"""OpenAI's Responses API at `/v1/responses`: requests read, answers written whole or as events. Pure.

A conversation is a list of items here, JSON objects such as messages, calls and their outputs, which may be kept from
one request to the next. Keeping them is the business of `llamero.responses`. Source: compat-api §8.
"""
