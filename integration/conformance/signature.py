"""Whether AWS would accept who a request says it comes from: SigV4 by botocore's own signer, and the checksums of the body.

The request is signed again with the known secret over exactly the headers it names; equal signatures mean that canonical
request, string to sign and key agree with AWS's client.
"""

import base64
import hashlib
import re
import zlib

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<date>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request, ?"
    r"SignedHeaders=(?P<signed>[^,]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
# Bodies that are deliberately outside the signature; the checksum trailer covers the second.
UNSIGNED = ("UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")


def exactly(auth, signed):
    """A signer that signs the named headers and no others, whatever its own list of exceptions says."""

    class Exactly(auth):
        def headers_to_sign(self, request):
            headers = HTTPHeaders()
            for name in signed:
                if name in request.headers:
                    headers[name] = request.headers[name]
            return headers

    return Exactly


def check_signature(request, secrets):
    """Findings. `secrets`: access key id → (secret, session token or None)."""
    stated = AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if not stated:
        return [f"Authorization is not SigV4: {request.headers.get('authorization', 'missing')[:60]!r}"]
    if stated["key"] not in secrets:
        return [f"signed with an unknown access key {stated['key']}"]
    secret, token = secrets[stated["key"]]
    findings = []
    if request.headers.get("x-amz-security-token") != token:
        findings.append("x-amz-security-token is not the session token of this access key")
    date = request.headers.get("x-amz-date", "")
    if not re.fullmatch(r"\d{8}T\d{6}Z", date):
        return findings + [f"x-amz-date is {date!r}"]
    if date[:8] != stated["date"]:
        findings.append(f"credential scope is of {stated['date']}, x-amz-date of {date[:8]}")
    signed = stated["signed"].split(";")
    must = {"host"} | {name for name in request.headers if name.startswith("x-amz-")}
    findings += [f"header {name} is not signed" for name in sorted(must - set(signed))]
    findings += [f"header {name} is named as signed and is missing" for name in signed if name not in request.headers]
    if signed != sorted(signed):
        findings.append("SignedHeaders is not sorted")
    if sign(request, stated, signed, Credentials(stated["key"], secret, token)) != stated["signature"]:
        findings.append("signature does not match: AWS would answer SignatureDoesNotMatch")
    return findings


def sign(request, stated, signed, credentials):
    auth = exactly(S3SigV4Auth if stated["service"] == "s3" else SigV4Auth, signed)(credentials, stated["service"], stated["region"])
    # http, so that botocore hashes the body where no x-amz-content-sha256 speaks for it.
    again = AWSRequest(request.method, f"http://{request.headers.get('host', '')}{request.target}", data=request.body)
    for name in signed:
        if name in request.headers:
            again.headers[name] = request.headers[name]
    if "x-amz-content-sha256" in request.headers:
        again.headers["X-Amz-Content-SHA256"] = request.headers["x-amz-content-sha256"]
    again.context["timestamp"] = request.headers["x-amz-date"]
    return auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again)


def check_body(request, service_name):
    """Findings on x-amz-content-sha256, x-amz-checksum-*, Content-MD5 and the aws-chunked framing."""
    findings = []
    stated = request.headers.get("x-amz-content-sha256")
    if stated is None and service_name == "s3":
        findings.append("S3 wants x-amz-content-sha256")
    elif stated not in (None, *UNSIGNED) and stated != hashlib.sha256(request.body).hexdigest():
        findings.append("x-amz-content-sha256 is not the hash of the body")
    payload, trailers = request.payload()
    length = request.headers.get("x-amz-decoded-content-length")
    if length is not None and int(length) != len(payload):
        findings.append(f"x-amz-decoded-content-length is {length}, the payload has {len(payload)} bytes")
    announced = [name.strip() for name in request.headers.get("x-amz-trailer", "").split(",") if name.strip()]
    findings += [f"trailer {name} was announced and did not come" for name in announced if name not in trailers]
    for name, value in {**request.headers, **trailers}.items():
        algorithm = name.removeprefix("x-amz-checksum-")
        if algorithm in CHECKSUMS and value != base64.b64encode(CHECKSUMS[algorithm](payload)).decode():
            findings.append(f"{name} is not the checksum of the payload: S3 would answer BadDigest")
    md5 = request.headers.get("content-md5")
    if md5 is not None and md5 != base64.b64encode(hashlib.md5(request.body).digest()).decode():
        findings.append("Content-MD5 is not the hash of the body")
    return findings


def reflected_crc(polynomial, bits):
    """A CRC as S3 uses it: reflected, all ones before and after."""
    ones, table = (1 << bits) - 1, []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (polynomial if byte & 1 else 0)
        table.append(byte)

    def crc(data):
        state = ones
        for byte in data:
            state = table[(state ^ byte) & 0xFF] ^ (state >> 8)
        return (state ^ ones).to_bytes(bits // 8, "big")

    return crc


CHECKSUMS = {
    "crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "crc32c": reflected_crc(0x82F63B78, 32),
    "crc64nvme": reflected_crc(0x9A6C9329AC4BC9B5, 64),
    "sha1": lambda data: hashlib.sha1(data).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
}
