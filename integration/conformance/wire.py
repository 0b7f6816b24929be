"""Bytes on the wire to (operation, parameters), by botocore's service models: the reverse of botocore.serialize.

Owns the three protocols that the agent speaks (query, json, rest-xml with path-style addresses). What does not fit the model
becomes a finding; what fits is left to check_requests.py, which judges the values.
"""

import base64
import json
import re
import xml.etree.ElementTree as ElementTree
from urllib.parse import parse_qsl, unquote, urlsplit

# Headers that carry the transport, the signature or the SDK's own bookkeeping: in no operation's model.
TRANSPORT_HEADERS = {
    "x-amz-date", "x-amz-security-token", "x-amz-content-sha256", "x-amz-user-agent",
    "x-amz-decoded-content-length", "x-amz-trailer", "x-amz-target", "x-amzn-query-mode",
}


class Unreadable(Exception):
    """The request cannot be read as any operation of the service."""


class Request:
    """One recorded request. Header names are lower case; a repeated header is joined with commas, as SigV4 wants it."""

    def __init__(self, line):
        raw = json.loads(line)
        self.method = raw["method"]
        self.service = raw.get("service")
        self.target = raw["target"]
        self.body = base64.b64decode(raw["body"])
        self.headers = {}
        for name, value in raw["headers"]:
            name = name.lower()
            self.headers[name] = f"{self.headers[name]},{value}" if name in self.headers else value
        self.path = urlsplit(self.target).path
        self.query = urlsplit(self.target).query

    def payload(self):
        """The body without the framing of `Content-Encoding: aws-chunked`, and the trailers behind it."""
        if "aws-chunked" in self.headers.get("content-encoding", ""):
            return unchunk(self.body)
        return self.body, {}


def unchunk(body):
    """`5\\r\\nhello\\r\\n0\\r\\nx-amz-checksum-crc32:…\\r\\n\\r\\n` to (b"hello", trailers)."""
    payload, rest = b"", body
    while True:
        head, found, rest = rest.partition(b"\r\n")
        if not found:
            raise Unreadable("aws-chunked body ends inside a chunk header")
        try:
            size = int(head.split(b";")[0], 16)
        except ValueError:
            raise Unreadable(f"aws-chunked size {head[:20]!r} is not hexadecimal") from None
        if size == 0:
            break
        if rest[size:size + 2] != b"\r\n":
            raise Unreadable("aws-chunked chunk is shorter than its size")
        payload, rest = payload + rest[:size], rest[size + 2:]
    trailers = dict(line.split(":", 1) for line in rest.decode().split("\r\n") if ":" in line)
    return payload, {name.strip().lower(): value.strip() for name, value in trailers.items()}


def read(request, service):
    """(operation model, parameters, findings) of a request to this service."""
    reader = {"query": read_query, "json": read_json, "rest-xml": read_rest_xml}.get(service.protocol)
    if reader is None:
        raise Unreadable(f"protocol {service.protocol} is not known to this checker")
    findings = []
    operation, params = reader(request, service, findings)
    return operation, params, findings


def operation_named(service, name):
    if name not in service.operation_names:
        raise Unreadable(f"{service.service_name} has no operation {name!r}")
    return service.operation_model(name)


# ── query: Auto Scaling, SNS ──────────────────────────────────────────────────────────────────────────────────────────


def read_query(request, service, findings):
    if request.method != "POST" or request.path != "/":
        findings.append(f"query protocol wants POST /, got {request.method} {request.path}")
    content_type = request.headers.get("content-type", "")
    if not content_type.startswith("application/x-www-form-urlencoded"):
        findings.append(f"content-type is {content_type!r}, not application/x-www-form-urlencoded")
    form = dict(parse_qsl(request.body.decode(), keep_blank_values=True, strict_parsing=True))
    operation = operation_named(service, form.pop("Action", ""))
    version = form.pop("Version", None)
    if version != service.api_version:
        findings.append(f"Version is {version!r}, the model says {service.api_version}")
    params = from_form(form, operation.input_shape, "", findings) if operation.input_shape else {}
    findings.extend(f"parameter {name} is not in the model" for name in form)
    return operation, params or {}


def from_form(form, shape, prefix, findings):
    """Takes what belongs to `shape` out of the flat form; None where nothing does."""
    if shape.type_name == "structure":
        found = {}
        for name, member in shape.members.items():
            wire_name = member.serialization.get("name", name)
            value = from_form(form, member, f"{prefix}.{wire_name}" if prefix else wire_name, findings)
            if value is not None:
                found[name] = value
        return found or None
    if shape.type_name == "list":
        base = prefix if shape.serialization.get("flattened") else f"{prefix}.{shape.member.serialization.get('name', 'member')}"
        found = []
        while (value := from_form(form, shape.member, f"{base}.{len(found) + 1}", findings)) is not None:
            found.append(value)
        return found or None
    return scalar(form.pop(prefix), shape, prefix, findings) if prefix in form else None


def scalar(text, shape, where, findings):
    """Text to the value that botocore's validator expects; text that is not of the type is a finding and stays text."""
    try:
        if shape.type_name in ("integer", "long"):
            return int(text)
        if shape.type_name in ("float", "double"):
            return float(text)
        if shape.type_name == "boolean":
            return {"true": True, "false": False}[text]
        if shape.type_name == "blob":
            return base64.b64decode(text, validate=True)
    except (ValueError, KeyError):
        findings.append(f"{where}={text!r} is not a {shape.type_name}")
    return text


# ── json: SQS ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def read_json(request, service, findings):
    if request.method != "POST" or request.path != "/":
        findings.append(f"json protocol wants POST /, got {request.method} {request.path}")
    want = f"application/x-amz-json-{service.metadata['jsonVersion']}"
    if request.headers.get("content-type") != want:
        findings.append(f"content-type is {request.headers.get('content-type')!r}, not {want}")
    prefix, _, name = request.headers.get("x-amz-target", "").partition(".")
    if prefix != service.metadata["targetPrefix"]:
        raise Unreadable(f"X-Amz-Target is {request.headers.get('x-amz-target')!r}")
    operation = operation_named(service, name)
    try:
        body = json.loads(request.body or b"{}")
    except ValueError as error:
        raise Unreadable(f"body is not JSON: {error}") from None
    return operation, from_json(body, operation.input_shape, "", findings)


def from_json(value, shape, where, findings):
    """Wire names to member names; members that the model does not have are findings. Types are left to the validator."""
    if shape.type_name == "structure" and isinstance(value, dict):
        by_wire = {member.serialization.get("name", name): (name, member) for name, member in shape.members.items()}
        found = {}
        for key, inner in value.items():
            if key not in by_wire:
                findings.append(f"parameter {where}{key} is not in the model")
            elif inner is not None:
                name, member = by_wire[key]
                found[name] = from_json(inner, member, f"{where}{key}.", findings)
        return found
    if shape.type_name == "list" and isinstance(value, list):
        return [from_json(inner, shape.member, where, findings) for inner in value]
    if shape.type_name == "map" and isinstance(value, dict):
        return {key: from_json(inner, shape.value, where, findings) for key, inner in value.items()}
    return value


# ── rest-xml: S3 ──────────────────────────────────────────────────────────────────────────────────────────────────────


def read_rest_xml(request, service, findings):
    query = dict(parse_qsl(request.query, keep_blank_values=True))
    fits = [fit for name in service.operation_names if (fit := fit_rest(request, query, service.operation_model(name)))]
    if not fits:
        raise Unreadable(f"no operation of {service.service_name} fits {request.method} {request.target}")
    _, operation, labels = max(fits, key=lambda fit: fit[0])
    return operation, rest_params(request, query, operation, labels, findings)


def fit_rest(request, query, operation):
    """(weight, operation, path labels) where method, path and fixed query fit and every required member stands; the heaviest fit wins."""
    uri, _, fixed = operation.http["requestUri"].partition("?")
    fixed = dict(parse_qsl(fixed, keep_blank_values=True))
    pattern = re.sub(r"\\{(\w+)\\\+\\}", r"(?P<\1>.+)", re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(uri)))
    path = re.fullmatch(pattern + "/?" if "Key" not in uri else pattern, request.path)
    named = query.get("x-id", operation.name)
    if request.method != operation.http["method"] or not path or named != operation.name:
        return None
    if any(query.get(name) != value for name, value in fixed.items()):
        return None
    weight, known = 2 * len(fixed), set(fixed) | {"x-id"}
    for name, member in (operation.input_shape.members if operation.input_shape else {}).items():
        where, wire_name = member.serialization.get("location"), member.serialization.get("name", name)
        stands = {"querystring": wire_name in query, "header": wire_name.lower() in request.headers}.get(where)
        if where == "querystring":
            known.add(wire_name)
        if stands is False and name in operation.input_shape.required_members:
            return None
        weight += bool(stands)
    return (weight, operation, path.groupdict()) if set(query) <= known else None


def rest_params(request, query, operation, labels, findings):
    params, known = {}, set(TRANSPORT_HEADERS)
    shape = operation.input_shape
    payload_name = shape.serialization.get("payload")
    for name, member in shape.members.items():
        where, wire_name = member.serialization.get("location"), member.serialization.get("name", name)
        if where == "uri":
            params[name] = unquote(labels[wire_name])
        elif where == "querystring" and wire_name in query:
            params[name] = scalar(query[wire_name], member, wire_name, findings)
        elif where == "header":
            known.add(wire_name.lower())
            if wire_name.lower() in request.headers and member.type_name != "timestamp":
                params[name] = scalar(request.headers[wire_name.lower()], member, wire_name, findings)
        elif where == "headers":
            start = wire_name.lower()
            params[name] = {key[len(start):]: value for key, value in request.headers.items() if key.startswith(start)}
            known.update(start + key for key in params[name])
    body, _ = request.payload()
    if payload_name and shape.members[payload_name].type_name == "structure":
        if body:
            params[payload_name] = from_document(body, shape.members[payload_name], findings)
    elif payload_name:
        params[payload_name] = body
    elif body:
        findings.append(f"{operation.name} takes no body, got {len(body)} bytes")
    for name in request.headers:
        if name.startswith("x-amz-") and name not in known:
            findings.append(f"header {name} is not in the model of {operation.name}: AWS would ignore it")
    return params


def from_document(body, shape, findings):
    try:
        root = ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise Unreadable(f"body is not XML: {error}") from None
    space = shape.serialization.get("xmlNamespace", {}).get("uri", "")
    want = f"{{{space}}}{shape.serialization.get('name', shape.name)}"
    if root.tag != want:
        findings.append(f"document element is {root.tag}, not {want}")
    return from_xml(root, shape, findings)


def from_xml(element, shape, findings):
    if shape.type_name != "structure":
        return scalar(element.text or "", shape, local(element), findings)
    by_wire = {member.serialization.get("name", name): (name, member) for name, member in shape.members.items()}
    found = {}
    for child in element:
        if local(child) not in by_wire:
            findings.append(f"element {local(child)} is not in the model of {shape.name}")
            continue
        name, member = by_wire[local(child)]
        if member.type_name == "list" and member.serialization.get("flattened"):
            found.setdefault(name, []).append(from_xml(child, member.member, findings))
        elif member.type_name == "list":
            found[name] = [from_xml(inner, member.member, findings) for inner in child]
        else:
            found[name] = from_xml(child, member, findings)
    return found


def local(element):
    return element.tag.rpartition("}")[2]
