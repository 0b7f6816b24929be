"""Judges recorded requests by AWS's own service models and signer.

    python check_requests.py REQUESTS.jsonl --secret AKID=SECRET[=TOKEN] …

One JSON object a line: {"method", "target" (path and query as sent), "headers": [[name, value], …], "body": base64}. Requests under
/latest/ are the instance metadata service's; every other request belongs to the service that its signature names; a line whose "service"
is zabbix is passed over. Prints one line per finding and, last, what was checked; exit code 1 where there is a finding, and where there
was nothing to check.
"""

import argparse
import re
import sys
from collections import Counter

import botocore.session
from botocore.exceptions import UnknownServiceError
from botocore.validate import ParamValidator

import signature
import wire

# Limits that AWS documents in words and the models do not carry (SQS API reference, ReceiveMessage and ChangeMessageVisibility).
DOCUMENTED_RANGES = {
    ("sqs", "WaitTimeSeconds"): (0, 20),
    ("sqs", "MaxNumberOfMessages"): (1, 10),
    ("sqs", "VisibilityTimeout"): (0, 43200),
}
# Auto Scaling API reference: "If you do not specify InstanceId, you must specify LifecycleActionToken", and the other way round.
ONE_OF = {
    "CompleteLifecycleAction": ("InstanceId", "LifecycleActionToken"),
    "RecordLifecycleActionHeartbeat": ("InstanceId", "LifecycleActionToken"),
}
# Documented values of members whose model says only `string`.
DOCUMENTED_VALUES = {("autoscaling", "LifecycleActionResult"): ("CONTINUE", "ABANDON")}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("requests")
    arguments.add_argument("--secret", action="append", default=[], help="AKID=SECRET or AKID=SECRET=TOKEN; repeatable")
    arguments = arguments.parse_args()
    secrets = dict(read_secret(text) for text in arguments.secret)
    session, seen, failed = botocore.session.get_session(), Counter(), False
    with open(arguments.requests, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            request = wire.Request(line)
            if request.service == "zabbix":
                continue
            name, findings = check(request, session, secrets)
            seen[name] += 1
            for finding in findings:
                failed = True
                print(f"request {number}: {name}: {finding}")
    print("checked " + (", ".join(f"{count} {name}" for name, count in sorted(seen.items())) or "nothing: no request was recorded"))
    sys.exit(1 if failed or not seen else 0)


def read_secret(text):
    key, secret, *token = text.split("=", 2)
    return key, (secret, token[0] if token else None)


def check(request, session, secrets):
    """(what the request is, findings)."""
    if request.path.startswith("/latest/"):
        return "imds", check_imds(request)
    stated = signature.AUTHORIZATION.match(request.headers.get("authorization", ""))
    if not stated:
        return "unsigned request", [f"{request.method} {request.target} carries no SigV4 signature"]
    findings, name = signature.check_signature(request, secrets), stated["service"]
    try:
        service = session.get_service_model(name)
        findings += signature.check_body(request, name)
        operation, params, more = wire.read(request, service)
    except UnknownServiceError:
        return name, findings + ["botocore knows no service of this name"]
    except (wire.Unreadable, UnicodeDecodeError, ValueError) as error:
        return name, findings + [str(error)]
    findings += more + check_params(service, operation, params)
    return f"{name}.{operation.name}", findings


def check_params(service, operation, params):
    shape = operation.input_shape
    if shape is None:
        return []
    report = ParamValidator().validate(params, shape)
    findings = report.generate_report().splitlines() if report.has_errors() else []
    walk(params, shape, "", service.service_name, findings)
    one_of = ONE_OF.get(operation.name, ())
    if one_of and not any(name in params for name in one_of):
        findings.append(f"neither {' nor '.join(one_of)} is given")
    return findings


def walk(value, shape, where, service, findings):
    """Lengths, ranges, patterns and enums, which botocore's client leaves to the server."""
    if shape.type_name == "structure" and isinstance(value, dict):
        for name, inner in value.items():
            path = f"{where}.{name}" if where else name
            walk(inner, shape.members[name], path, service, findings)
            low, high = DOCUMENTED_RANGES.get((service, name), (None, None))
            if low is not None and isinstance(inner, int) and not low <= inner <= high:
                findings.append(f"{path}={inner} is outside {low}..{high}")
            allowed = DOCUMENTED_VALUES.get((service, name), (inner,))
            if inner not in allowed:
                findings.append(f"{path}={inner!r} is none of {', '.join(allowed)}")
    elif shape.type_name == "list" and isinstance(value, list):
        size(len(value), shape, where, "elements", findings)
        for inner in value:
            walk(inner, shape.member, where, service, findings)
    elif shape.type_name == "map" and isinstance(value, dict):
        for inner in value.values():
            walk(inner, shape.value, where, service, findings)
    elif isinstance(value, str) and shape.type_name == "string":
        size(len(value), shape, where, "characters", findings)
        pattern = shape.metadata.get("pattern")
        if pattern and not re.fullmatch(python_pattern(pattern), value):
            findings.append(f"{where}={value!r} does not match {pattern}")
        allowed = shape.metadata.get("enum") or [value]
        if value not in allowed:
            findings.append(f"{where}={value!r} is none of {', '.join(allowed)}")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        size(value, shape, where, "", findings)


def size(number, shape, where, unit, findings):
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if (low is not None and number < low) or (high is not None and number > high):
        findings.append(f"{where} has {number} {unit}".rstrip() + f", the model allows {low}..{high}")


def python_pattern(pattern):
    """The models write characters beyond the 16-bit plane as surrogate ranges, for Java."""
    return pattern.replace(r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010FFFF")


def check_imds(request):
    """IMDSv2 only (EC2 User Guide, "Use IMDSv2"): a token with a lifetime, and no data without it."""
    if request.path == "/latest/api/token":
        lifetime = request.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
        fine = lifetime.isdigit() and 1 <= int(lifetime) <= 21600
        findings = [] if fine else [f"token lifetime is {lifetime!r}, not 1..21600 seconds"]
        if request.method != "PUT":
            findings.append(f"a token is asked for with PUT, not {request.method}")
    else:
        findings = [] if request.method == "GET" else [f"metadata is read with GET, not {request.method}"]
        if not request.headers.get("x-aws-ec2-metadata-token"):
            findings.append(f"{request.path} is read without a token: IMDSv1")
    if "x-forwarded-for" in request.headers:
        findings.append("X-Forwarded-For: the service refuses it")
    return findings


if __name__ == "__main__":
    main()
