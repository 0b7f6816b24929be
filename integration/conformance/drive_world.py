"""Drives a running world with AWS's own clients and holds its answers to what AWS documents.

    python drive_world.py [imds] [sqs] [autoscaling] [s3] [cli]          (default: all, in this order)

The world is told by the variables that every AWS client reads (AWS_ENDPOINT_URL_SQS, AWS_ENDPOINT_URL_AUTO_SCALING, AWS_ENDPOINT_URL_S3,
AWS_EC2_METADATA_SERVICE_ENDPOINT, all on this machine; AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) and by WORLD_INSTANCE,
WORLD_GROUP, WORLD_HOOK, WORLD_QUEUE_URL and WORLD_BUCKET. What must hold before: the instance is in Terminating:Wait, its message lies in
the queue and is visible (foreign ones may lie beside it), the bucket is empty. `cli` completes an action of its own: that of a second
instance in the same state, WORLD_CLI_INSTANCE.
Prints `ok <what>` or `WRONG <what>: <why>` per statement; exit code 1 where one is wrong.

Marks behind a statement: [D] AWS documentation, [M] botocore's service model, [F] field report, [A] assumed.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.utils import InstanceMetadataFetcher

# One try and short waits: a world that does not answer is a finding, not something to be patient with.
ONE_TRY = Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=30, s3={"addressing_style": "path"})
# Lets a wrong value through to the server, which must refuse it itself.
UNCHECKED = ONE_TRY.merge(Config(parameter_validation=False))
NO_ACTION = "No active Lifecycle Action found"
wrong = 0


@contextlib.contextmanager
def statement(text):
    """One thing that holds on AWS. What the body raises says why it does not hold here."""
    global wrong
    try:
        yield
        print(f"ok {text}", flush=True)
    except Exception as error:  # noqa: BLE001 (the world may answer anything)
        wrong += 1
        print(f"WRONG {text}: {type(error).__name__}: {error}".replace("\n", " "), flush=True)


def expect(actual, wanted):
    if actual != wanted:
        raise AssertionError(f"got {actual!r}, want {wanted!r}")


def refused(code, call, *, status=400, text="", **arguments):
    """The call fails with this error code, HTTP status and text."""
    try:
        call(**arguments)
    except ClientError as error:
        expect(error.response["Error"]["Code"], code)
        expect(error.response["ResponseMetadata"]["HTTPStatusCode"], status)
        if text not in error.response["Error"]["Message"]:
            raise AssertionError(f"message {error.response['Error']['Message']!r} lacks {text!r}") from None
        return
    raise AssertionError(f"the call went through, want {code}")


# ── the instance metadata service ─────────────────────────────────────────────────────────────────────────────────────


def imds():
    base = os.environ["AWS_EC2_METADATA_SERVICE_ENDPOINT"].rstrip("/")

    def ask(method, path, **headers):
        """(status, text); header names with underscores for dashes."""
        request = urllib.request.Request(base + path, method=method, headers={name.replace("_", "-"): value for name, value in headers.items()})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""

    def token(seconds):
        return ask("PUT", "/latest/api/token", X_aws_ec2_metadata_token_ttl_seconds=str(seconds))

    def data(path):
        return ask("GET", f"/latest/meta-data/{path}", X_aws_ec2_metadata_token=token(60)[1])

    with statement("imds, botocore's own fetcher gets role credentials [D]"):
        found = InstanceMetadataFetcher(base_url=base + "/", num_attempts=1).retrieve_iam_role_credentials()
        expect({"access_key", "secret_key", "token", "expiry_time"} <= set(found), True)
    with statement("imds, a token lives 1..21600 seconds, anything else is 400 [D]"):
        expect([token(seconds)[0] for seconds in (1, 21600, 0, 21601)], [200, 200, 400, 400])
        expect(ask("PUT", "/latest/api/token")[0], 400)
    with statement("imds, data without a token is 401, with a wrong one too [D]"):
        expect(ask("GET", "/latest/meta-data/instance-id")[0], 401)
        expect(ask("GET", "/latest/meta-data/instance-id", X_aws_ec2_metadata_token="wrong")[0], 401)
    with statement("imds, a token is refused where X-Forwarded-For is present [D]"):
        expect(ask("PUT", "/latest/api/token", X_aws_ec2_metadata_token_ttl_seconds="60", X_Forwarded_For="192.0.2.1")[0], 403)
    with statement("imds, instance id and region are one word each [D]"):
        expect(data("instance-id"), (200, os.environ["WORLD_INSTANCE"]))
        expect(data("placement/region"), (200, os.environ["AWS_REGION"]))
    with statement("imds, target-lifecycle-state is Terminated while the hook waits [D]"):
        expect(data("autoscaling/target-lifecycle-state"), (200, "Terminated"))
    with statement("imds, what is absent is 404, spot notices among it [D]"):
        expect([data("no-such-thing")[0], data("spot/instance-action")[0]], [404, 404])


# ── SQS ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def letters(messages):
    """The hook notifications among the messages: [(message, body)], whatever their wrapper."""
    found = []
    for message in messages:
        try:
            body = json.loads(message["Body"])
        except ValueError:
            continue  # anybody may write into the queue
        if body.get("Type") == "Notification":
            body = json.loads(body["Message"])
        found.append((message, body.get("detail", body)))
    return found


def receive_own(client, queue, instance, seconds=10):
    """Receives until the letter of this instance came; foreign ones are given back, as a good neighbour does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        got = client.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1, VisibilityTimeout=20,
                                     MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"])
        own = [pair for pair in letters(got.get("Messages", [])) if pair[1].get("EC2InstanceId") == instance]
        for message in got.get("Messages", []):
            if message not in [pair[0] for pair in own]:
                client.change_message_visibility(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
        if own:
            return own[0]
    raise AssertionError(f"no message for {instance} within {seconds} s")


def sqs():
    client, queue, instance = boto3.client("sqs", config=ONE_TRY), os.environ["WORLD_QUEUE_URL"], os.environ["WORLD_INSTANCE"]
    message = None
    with statement("sqs, the hook's message has the documented keys, a token of 36 characters [D][M]"):
        message, body = receive_own(client, queue, instance)
        expect(body["LifecycleTransition"], "autoscaling:EC2_INSTANCE_TERMINATING")
        expect((body["AutoScalingGroupName"], body["LifecycleHookName"]), (os.environ["WORLD_GROUP"], os.environ["WORLD_HOOK"]))
        expect(len(body["LifecycleActionToken"]), 36)
        sqs.token = body["LifecycleActionToken"]
    if message is None:
        return
    with statement("sqs, asked-for system attributes come as strings [M]"):
        expect(all(text.isdigit() for text in (message["Attributes"]["ApproximateReceiveCount"], message["Attributes"]["SentTimestamp"])), True)
    again = message
    with statement("sqs, visibility 0 gives a message back at once, and the receive count grows [D]"):
        client.change_message_visibility(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
        again, _ = receive_own(client, queue, instance)
        expect(again["MessageId"], message["MessageId"])
        expect(int(again["Attributes"]["ApproximateReceiveCount"]) > int(message["Attributes"]["ApproximateReceiveCount"]), True)
    with statement("sqs, a received message is hidden, and an empty answer has no Messages [D][M]"):
        seen = client.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=0)
        expect(again["MessageId"] in [other["MessageId"] for other in seen.get("Messages", ())], False)
        expect(seen.get("Messages", None) != [], True)
    with statement("sqs, deleting twice is fine [D]"):
        for _ in range(2):
            client.delete_message(QueueUrl=queue, ReceiptHandle=again["ReceiptHandle"])
    with statement("sqs, a made-up receipt handle is ReceiptHandleIsInvalid [M]"):
        refused("ReceiptHandleIsInvalid", client.delete_message, QueueUrl=queue, ReceiptHandle="made up")
    with statement("sqs, an unknown queue is QueueDoesNotExist, by exception class and by the old code [M]"):
        try:
            client.receive_message(QueueUrl=queue + "-absent")
            raise AssertionError("the call went through")
        except client.exceptions.QueueDoesNotExist as error:
            expect(error.response["Error"]["Code"], "AWS.SimpleQueueService.NonExistentQueue")
    with statement("sqs, get_queue_url finds the queue by its name [M]"):
        expect(client.get_queue_url(QueueName=queue.rpartition("/")[2])["QueueUrl"].rpartition("/")[2], queue.rpartition("/")[2])


# ── Auto Scaling ──────────────────────────────────────────────────────────────────────────────────────────────────────


def autoscaling():
    client, unchecked = boto3.client("autoscaling", config=ONE_TRY), boto3.client("autoscaling", config=UNCHECKED)
    instance = os.environ["WORLD_INSTANCE"]
    names = {"AutoScalingGroupName": os.environ["WORLD_GROUP"], "LifecycleHookName": os.environ["WORLD_HOOK"]}
    own = {**names, "InstanceId": instance}

    with statement("autoscaling, the instance is described as Terminating:Wait, with the members of the model [M]"):
        found = client.describe_auto_scaling_instances(InstanceIds=[instance])["AutoScalingInstances"]
        expect([(each["InstanceId"], each["AutoScalingGroupName"], each["LifecycleState"]) for each in found],
               [(instance, names["AutoScalingGroupName"], "Terminating:Wait")])
        expect({"AvailabilityZone", "HealthStatus", "ProtectedFromScaleIn"} <= set(found[0]), True)
    with statement("autoscaling, an unknown instance is an empty list, no error [D]"):
        expect(client.describe_auto_scaling_instances(InstanceIds=["i-00000000000000000"])["AutoScalingInstances"], [])
    with statement("autoscaling, the hook's global timeout is 100 heartbeats, at most 48 hours [M]"):
        hooks = client.describe_lifecycle_hooks(AutoScalingGroupName=names["AutoScalingGroupName"])["LifecycleHooks"]
        hook = next(each for each in hooks if each["LifecycleHookName"] == names["LifecycleHookName"])
        expect(hook["LifecycleTransition"], "autoscaling:EC2_INSTANCE_TERMINATING")
        expect(hook["DefaultResult"] in ("CONTINUE", "ABANDON"), True)
        expect(hook["GlobalTimeout"], min(172800, 100 * hook["HeartbeatTimeout"]))
    with statement("autoscaling, heartbeats go by instance id alone [M]"):
        client.record_lifecycle_action_heartbeat(**own)
    if getattr(sqs, "token", None):
        with statement("autoscaling, heartbeats go by the message's token alone [M]"):
            client.record_lifecycle_action_heartbeat(**names, LifecycleActionToken=sqs.token)
    with statement("autoscaling, a stale token without an instance id is ValidationError, no active action [F]"):
        refused("ValidationError", client.record_lifecycle_action_heartbeat, text=NO_ACTION, **names, LifecycleActionToken=str(uuid.uuid4()))
    with statement("autoscaling, another instance has no active action [F]"):
        refused("ValidationError", client.complete_lifecycle_action, text=NO_ACTION, **names, InstanceId="i-00000000000000000", LifecycleActionResult="CONTINUE")
    with statement("autoscaling, the server itself refuses a token of 35 characters and an instance id of 20 [M]"):
        refused("ValidationError", unchecked.record_lifecycle_action_heartbeat, **own, LifecycleActionToken="x" * 35)
        refused("ValidationError", unchecked.record_lifecycle_action_heartbeat, **names, InstanceId="i-" + "0" * 18)
    with statement("autoscaling, the server itself refuses a completion without a result [M]"):
        refused("ValidationError", unchecked.complete_lifecycle_action, **own)
    with statement("autoscaling, an unknown hook is ValidationError [F]"):
        refused("ValidationError", client.record_lifecycle_action_heartbeat, **{**own, "LifecycleHookName": "absent"})
    with statement("autoscaling, completion by instance id answers 200, and the action is over [D]"):
        client.complete_lifecycle_action(**own, LifecycleActionResult="CONTINUE")
        refused("ValidationError", client.record_lifecycle_action_heartbeat, text=NO_ACTION, **own)
    with statement("autoscaling, a second completion is ValidationError, no active action [F]"):
        refused("ValidationError", client.complete_lifecycle_action, text=NO_ACTION, **own, LifecycleActionResult="CONTINUE")
    with statement("autoscaling, afterwards the instance is on its way out or gone [D]"):
        left = client.describe_auto_scaling_instances(InstanceIds=[instance])["AutoScalingInstances"]
        expect([each["LifecycleState"] for each in left if each["LifecycleState"] not in ("Terminating:Proceed", "Terminated")], [])


# ── S3 ────────────────────────────────────────────────────────────────────────────────────────────────────────────────


def s3():
    client, bucket = boto3.client("s3", config=ONE_TRY), os.environ["WORLD_BUCKET"]
    key = f"residual/{os.environ['WORLD_INSTANCE']}/files/var/log/a b+ü.log"
    with statement("s3, put and get agree on bytes, metadata and an awkward key [D]"):
        client.put_object(Bucket=bucket, Key=key, Body=b"line\n", Metadata={"truncated": "true"})
        got = client.get_object(Bucket=bucket, Key=key)
        expect((got["Body"].read(), got["Metadata"]), (b"line\n", {"truncated": "true"}))
    with statement("s3, list gives the awkward key back as it was put [D]"):
        expect([each["Key"] for each in client.list_objects_v2(Bucket=bucket, Prefix=key)["Contents"]], [key])
    with statement("s3, parts become one object [D]"):
        upload = client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        part = dict(Bucket=bucket, Key=key, UploadId=upload)
        bodies = [b"x" * (5 << 20), b"end"]
        tags = [client.upload_part(**part, PartNumber=number, Body=body)["ETag"] for number, body in enumerate(bodies, 1)]
        client.complete_multipart_upload(**part, MultipartUpload={"Parts": [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(tags, 1)]})
        expect(client.head_object(Bucket=bucket, Key=key)["ContentLength"], sum(map(len, bodies)))
    with statement("s3, If-None-Match * on a key that is there is 412 PreconditionFailed [D]"):
        refused("PreconditionFailed", client.put_object, status=412, Bucket=bucket, Key=key, Body=b"", IfNoneMatch="*")
    with statement("s3, a wrong checksum is BadDigest [M]"):
        refused("BadDigest", client.put_object, Bucket=bucket, Key="wrong-sum", Body=b"line\n", ChecksumCRC32="AAAAAA==")
    with statement("s3, a bucket that is not there is 404 NoSuchBucket [D]"):
        refused("NoSuchBucket", client.put_object, status=404, Bucket=bucket + "-absent", Key="k", Body=b"")


# ── what the seeds type ───────────────────────────────────────────────────────────────────────────────────────────────


def aws(*words):
    """Runs the aws command that was installed beside this Python; what it printed, or why it failed."""
    command = [str(Path(sys.executable).with_name("aws")), *words]
    if words[0] == "sqs":
        # Version 1 of the command ignores AWS_ENDPOINT_URL_SQS and asks AWS's legacy queue host (aws/aws-cli#8737).
        command += ["--endpoint-url", os.environ["AWS_ENDPOINT_URL_SQS"]]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=180)
    if ran.returncode:
        raise AssertionError(f"aws {' '.join(words[:2])} exits {ran.returncode}: {ran.stderr.strip()}")
    return ran.stdout


def cli():
    queue, instance, bucket = os.environ["WORLD_QUEUE_URL"], os.environ["WORLD_CLI_INSTANCE"], os.environ["WORLD_BUCKET"]
    handle, body = "", {}
    with statement("cli, aws sqs receive-message shows the message of the instance [D]"):
        deadline = time.monotonic() + 20
        while not body and time.monotonic() < deadline:
            answer = aws("sqs", "receive-message", "--queue-url", queue, "--max-number-of-messages", "10", "--wait-time-seconds", "1")
            for message, letter in letters(json.loads(answer or "{}").get("Messages", [])):
                if letter.get("EC2InstanceId") == instance:
                    handle, body = message["ReceiptHandle"], letter
        if not body:
            raise AssertionError(f"no message for {instance}")
    if not body:
        return
    with statement("cli, aws autoscaling record-lifecycle-action-heartbeat and complete-lifecycle-action go by token [D]"):
        names = ("--lifecycle-hook-name", body["LifecycleHookName"], "--auto-scaling-group-name", body["AutoScalingGroupName"],
                 "--lifecycle-action-token", body["LifecycleActionToken"])
        aws("autoscaling", "record-lifecycle-action-heartbeat", *names)
        aws("autoscaling", "complete-lifecycle-action", *names, "--lifecycle-action-result", "CONTINUE")
    with statement("cli, aws sqs delete-message takes the receipt handle [D]"):
        aws("sqs", "delete-message", "--queue-url", queue, "--receipt-handle", handle)
    with statement("cli, aws s3 cp puts a file under the instance id, and aws s3 ls shows it [D]"):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "error.log")
            file.write_text("line\n", encoding="utf-8")
            aws("s3", "cp", str(file), f"s3://{bucket}/{instance}/")
        expect("error.log" in aws("s3", "ls", f"s3://{bucket}/{instance}/"), True)


def only_this_machine():
    """Wrong wiring must never end at AWS: every endpoint is told and local, and no profile of the user's is read."""
    for name in ("SQS", "AUTO_SCALING", "S3"):
        os.environ.setdefault(f"AWS_ENDPOINT_URL_{name}", "http://127.0.0.1:9")
    for name in [name for name in os.environ if name.startswith("AWS_ENDPOINT_URL_")]:
        if urlsplit(os.environ[name]).hostname not in ("127.0.0.1", "localhost"):
            raise SystemExit(f"{name} is not on this machine: {os.environ[name]}")
    os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull, AWS_PAGER="", AWS_DEFAULT_REGION=os.environ["AWS_REGION"])
    os.environ.pop("AWS_PROFILE", None)


def main():
    only_this_machine()
    parts = {"imds": imds, "sqs": sqs, "autoscaling": autoscaling, "s3": s3, "cli": cli}
    for name in sys.argv[1:] or parts:
        parts[name]()
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
