"""A server of a few lines that records what it is asked: what the judges themselves are tested with.

Answers Auto Scaling and the instance metadata service well enough for drive_world.py, and anything else with an empty success. Its lines are
those that check_requests.py reads. The world that the agent runs in is integration/support/ec2; this one only shows that the judges can
say yes, and, with `lies`, that they can say no.
"""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

REGION, GROUP, HOOK = "ap-northeast-1", "web blue", "drain-logs"
QUIET_WORD = "token-of-the-small-world"


class SmallWorld:
    """`actions`: instance id → token of its open lifecycle action. `lies`: names of the wrong behaviours to show."""

    def __init__(self, actions, lies=()):
        self.instance, self.actions, self.known = next(iter(actions)), dict(actions), set(actions)
        self.lies, self.requests = set(lies), []
        handler = type("Handler", (_Handler,), {"world": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def imds(self, method, path, headers):
        """(status, text)."""
        if path == "/latest/api/token":
            if "X-Forwarded-For" in headers:
                return 403, ""
            seconds = headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
            return (200, QUIET_WORD) if method == "PUT" and seconds.isdigit() and 1 <= int(seconds) <= 21600 else (400, "")
        if headers.get("X-aws-ec2-metadata-token") != QUIET_WORD and "imdsv1" not in self.lies:
            return 401, ""
        role = {"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": "ASIAEXAMPLE", "SecretAccessKey": "SECRET", "Token": "TOKEN",
                "LastUpdated": "2026-01-01T00:00:00Z", "Expiration": "2099-01-01T00:00:00Z"}
        texts = {"instance-id": self.instance, "placement/region": REGION, "autoscaling/target-lifecycle-state": "Terminated",
                 "iam/security-credentials/": "agent", "iam/security-credentials/agent": json.dumps(role)}
        text = texts.get(path.removeprefix("/latest/meta-data/"))
        return (404, "") if text is None else (200, text)

    def autoscaling(self, form):
        """(status, XML)."""
        action, instance, token = form["Action"], form.get("InstanceId"), form.get("LifecycleActionToken")
        if action == "DescribeAutoScalingInstances":
            return 200, result(action, members("AutoScalingInstances", [
                {"InstanceId": each, "AutoScalingGroupName": GROUP, "AvailabilityZone": REGION + "a", "HealthStatus": "HEALTHY",
                 "LifecycleState": "Terminating:Wait" if each in self.actions else "Terminating:Proceed", "ProtectedFromScaleIn": "false"}
                for name, each in form.items() if name.startswith("InstanceIds.member.") and each in self.known]))
        if action == "DescribeLifecycleHooks":
            return 200, result(action, members("LifecycleHooks", [
                {"LifecycleHookName": HOOK, "AutoScalingGroupName": GROUP, "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
                 "HeartbeatTimeout": "60", "GlobalTimeout": "172800" if "global timeout" in self.lies else "6000", "DefaultResult": "CONTINUE"}]))
        if (token and len(token) != 36) or len(instance or "") > 19 or (form["LifecycleHookName"], form["AutoScalingGroupName"]) != (HOOK, GROUP):
            return 400, error("ValidationError", "a value failed to satisfy its constraint")
        if action == "CompleteLifecycleAction" and form.get("LifecycleActionResult") not in ("CONTINUE", "ABANDON"):
            return 400, error("ValidationError", "LifecycleActionResult failed to satisfy its constraint")
        owner = instance or next((each for each, known in self.actions.items() if known == token), None)
        if owner not in self.actions or (token and self.actions[owner] != token):
            code = "NoSuchAction" if "error code" in self.lies else "ValidationError"
            return 400, error(code, f"No active Lifecycle Action found with instance ID {instance}")
        if action == "CompleteLifecycleAction":
            del self.actions[owner]
        return 200, result(action, "")


def result(action, inner):
    space = "http://autoscaling.amazonaws.com/doc/2011-01-01/"
    return (f'<{action}Response xmlns="{space}"><{action}Result>{inner}</{action}Result>'
            f"<ResponseMetadata><RequestId>0</RequestId></ResponseMetadata></{action}Response>")


def members(name, values):
    inner = "".join("<member>" + "".join(f"<{key}>{escape(text)}</{key}>" for key, text in value.items()) + "</member>" for value in values)
    return f"<{name}>{inner}</{name}>"


def error(code, message):
    return f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(message)}</Message></Error><RequestId>0</RequestId></ErrorResponse>"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    world = None

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.world.requests.append(json.dumps({"method": self.command, "target": self.path, "headers": self.headers.items(),
                                               "body": base64.b64encode(body).decode()}))
        status, text = self.decide(body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    do_GET = do_PUT = do_POST = do_DELETE = answer

    def decide(self, body):
        if self.path.startswith("/latest/"):
            return self.world.imds(self.command, self.path, self.headers)
        if "/autoscaling/" in self.headers.get("Authorization", ""):
            return self.world.autoscaling(dict(parse_qsl(body.decode())))
        if "X-Amz-Target" in self.headers:
            return 200, "{}"
        uploaded = "<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>" if self.path.endswith("?uploads") else ""
        return 200, uploaded

    def log_message(self, format, *arguments):
        pass
