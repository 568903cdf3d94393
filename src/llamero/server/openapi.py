"""`/openapi.json`: made from the table of routes and the structs of their bodies, so that it cannot drift from them."""

from __future__ import annotations

from typing import Any

import msgspec

from .. import __version__
from .routes import Route, Routes

REF = "#/components/schemas/{name}"


def document(routes: Routes) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a server with these routes."""
    used = (each for route in routes.all for each in (route.body, route.reply, route.lines, route.errors.reply))
    ordered = sorted({each for each in used if each is not None}, key=lambda each: each.__name__)
    schemas, components = msgspec.json.schema_components(ordered, ref_template=REF)
    by_type = dict(zip(ordered, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes.all:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, by_type)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Llamero", "version": __version__, "summary": "Ollama's API, served by Llamero"},
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(route: Route, schemas: dict[type, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()}{route.path.replace('/', '_').replace('{', '').replace('}', '')}",
        "responses": {
            "200": {"description": "Success", **_content(route, schemas)},
            "default": {
                "description": "An error: what happened, in one sentence",
                "content": {"application/json": {"schema": schemas[route.errors.reply]}},
            },
        },
    }
    if route.parameters:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in route.parameters
        ]
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schemas[route.body]}}}
    if route.upload is not None:
        operation["requestBody"] = {"required": True, "content": {"application/octet-stream": {"schema": {}}}}
        operation["responses"]["201"] = {"description": "Stored"}
    return operation


def _content(route: Route, schemas: dict[type, Any]) -> dict[str, Any]:
    if route.method == "HEAD":
        return {}
    content = {}
    if route.reply is not None:
        content["application/json"] = {"schema": schemas[route.reply]}
    if route.lines is not None:
        content["application/x-ndjson"] = {"schema": schemas[route.lines]}
    return {"content": content} if content else {}
