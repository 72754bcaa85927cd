"""Writes the reference of the operator API out of its description: `python -m firerunner.web.reference`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

from firerunner.web.acts import Acts
from firerunner.web.api import PREFIX, described
from firerunner.web.operations import Operations

_HEAD = f"""# API reference

Every call of the [API for operators](api.md), generated from the code (`make reference`). A running service
tells the same to whoever may read, as OpenAPI 3.1: `GET {PREFIX}/openapi.json`.

`GET` needs `api.read_token` or `api.operate_token`, `POST` needs `api.operate_token`. Times are Unix seconds.
A parameter, or a field of a body, that is not named here is refused.
"""

_KINDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}


def reference() -> str:
    """The page, as Markdown."""
    told = _description()
    calls = "".join(_call(path, method, call) for path, method, call in _calls(told))
    models = told["components"]["schemas"]
    shapes = "".join(
        _shape(name, model)
        for name, model in models.items()
        if model.get("type") == "object" and not name.startswith("HTTP") and name != "ValidationError"
    )
    return f"{_HEAD}\n## Calls\n{calls}{_refusals(told)}\n## Fields\n{shapes}"


def _description() -> dict[str, Any]:
    """OpenAPI; nothing is called, so nobody has to be behind the routes."""
    nobody = cast(Operations, SimpleNamespace(ledger=None))
    told = described(nobody, cast(Acts, None)).openapi()
    models = told["components"]["schemas"]
    words = {f"#/components/schemas/{name}": model for name, model in models.items() if "enum" in model}
    return cast(dict[str, Any], _with_words(told, words))


def _with_words(said: Any, words: Mapping[str, Any]) -> Any:
    """Lists of words where there were references to them."""
    if isinstance(said, list):
        return [_with_words(each, words) for each in said]
    if not isinstance(said, dict):
        return said
    if said.get("$ref") in words:
        return {**words[said["$ref"]], **{key: text for key, text in said.items() if key != "$ref"}}
    return {key: _with_words(each, words) for key, each in said.items()}


def _calls(told: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in told["paths"].items():
        for method, call in methods.items():
            yield f"{PREFIX}{path}", method.upper(), call


def _call(path: str, method: str, call: Mapping[str, Any]) -> str:
    status, answer = next((code, each) for code, each in call["responses"].items() if code.startswith("2"))
    parts = [f"\n### {method} {path}\n", f"{_line(call['description'])}\n"]
    rows = [
        (f"`{each['name']}`", _type(each["schema"]), _said(each["schema"], each.get("description", "")))
        for each in call.get("parameters", ())
        if each["in"] == "query"
    ]
    if rows:
        parts.append(_table(("parameter", "is", "means"), rows))
    body = call.get("requestBody")
    given = f"Body: {_type(_json(body))}. " if body else ""
    parts.append(f"{given}Answer: {status}, {_type(_json(answer))}.\n")
    return "\n".join(parts)


def _refusals(told: Mapping[str, Any]) -> str:
    rows: dict[str, str] = {}
    for _, _, call in _calls(told):
        rows |= {
            status: _line(each["description"])
            for status, each in call["responses"].items()
            if status.startswith(("4", "5"))
        }
    return f"\n### Refusals\n\n{_table(('status', 'because'), sorted(rows.items()))}"


def _shape(name: str, model: Mapping[str, Any]) -> str:
    needed = set(model.get("required", ()))
    rows = [
        (
            f"`{field}`",
            _type(schema),
            _said(schema, schema.get("description", ""), optional=field not in needed),
        )
        for field, schema in model.get("properties", {}).items()
    ]
    about = _line(model.get("description", ""))
    table = _table(("field", "is", "means"), rows)
    return "\n".join([f"\n### {_name(name)}\n", *([f"{about}\n"] if about else []), table])


def _json(message: Mapping[str, Any]) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = message["content"]["application/json"]["schema"]
    return schema


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = _name(schema["$ref"].rpartition("/")[2])
        return f"[{name}](#{name.lower().replace(' ', '-')})"
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema['items'])}"
    return _KINDS.get(str(schema.get("type")), str(schema.get("type", "anything")))


def _said(schema: Mapping[str, Any], about: str, *, optional: bool = False) -> str:
    """Meaning, bounds and default."""
    told = [_line(about)]
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None and high < 2**53:
        told.append(f"{low} to {high}.")
    if schema.get("maxLength"):
        told.append(f"At most {schema['maxLength']} characters.")
    if schema.get("default") not in (None, []):
        told.append(f"Default: `{schema['default']}`.")
    elif optional:
        told.append("May be left out.")
    return " ".join(each for each in told if each)


def _name(name: str) -> str:
    """`Page_Job_` is what pydantic calls a page of jobs."""
    return name.strip("_").replace("_", " of ")


def _line(text: str) -> str:
    return " ".join(text.split())


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return (
        "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines) + "\n"
    )


if __name__ == "__main__":
    print(reference(), end="")
