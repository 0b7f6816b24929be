"""The judges can say yes and can say no: boto3's own requests pass, and each kind of wrong request or wrong answer is found.

    python -m unittest test_judges          (in this folder, with the environment that venv.rs makes)
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import boto3
import botocore.session
from botocore.config import Config

import check_requests
import wire
from small_world import GROUP, HOOK, REGION, SmallWorld

INSTANCE, OTHER = "i-0aa11bb22cc33dd44", "i-0bb11bb22cc33dd44"
FOLDER = Path(__file__).parent
OTHER_TOKEN = "00000000-1f20-4a3b-9c4d-5e6f70819203"
TOKEN = "5b6c7d8e-1f20-4a3b-9c4d-5e6f70819203"
SECRETS = {"AKIDEXAMPLE": ("SECRETEXAMPLE", None), "ASIAEXAMPLE": ("SECRETEXAMPLE", "SESSION")}
NAMES = {"AutoScalingGroupName": GROUP, "LifecycleHookName": HOOK}
QUEUE = f"https://sqs.{REGION}.amazonaws.com/123456789012/my-hook"
UNCHECKED = Config(parameter_validation=False, retries={"total_max_attempts": 1}, s3={"addressing_style": "path"})


def client(world, service, key="AKIDEXAMPLE", secret=None, config=UNCHECKED):
    known, token = SECRETS[key]
    return boto3.client(service, endpoint_url=world.endpoint, region_name=REGION, config=config,
                        aws_access_key_id=key, aws_secret_access_key=secret or known, aws_session_token=token)


def judge(lines):
    """All findings on recorded lines, and the names of what was checked."""
    session = botocore.session.get_session()
    results = [check_requests.check(wire.Request(line), session, SECRETS) for line in lines]
    return [finding for _, findings in results for finding in findings], [name for name, _ in results]


class Requests(unittest.TestCase):
    def setUp(self):
        self.world = SmallWorld({INSTANCE: TOKEN})
        self.addCleanup(self.world.close)

    def found(self, fragment, change=None):
        """The one request made so far is found wrong, for this reason; `change` may alter it on its way."""
        raw = json.loads(self.world.requests[-1])
        if change:
            change(raw)
        findings, _ = judge([json.dumps(raw)])
        self.assertTrue(any(fragment in finding for finding in findings), f"{fragment!r} not among {findings}")

    def attempt(self, service, operation, key="AKIDEXAMPLE", secret=None, **arguments):
        """The request is what counts; the small world may well refuse it."""
        try:
            getattr(client(self.world, service, key, secret), operation)(**arguments)
        except Exception:  # noqa: BLE001
            self.assertTrue(self.world.requests, f"{operation} was never sent")

    def test_everything_that_boto3_sends_passes(self):
        for key in SECRETS:
            scaling, queue, store = (client(self.world, name, key) for name in ("autoscaling", "sqs", "s3"))
            scaling.record_lifecycle_action_heartbeat(**NAMES, InstanceId=INSTANCE, LifecycleActionToken=TOKEN)
            scaling.describe_auto_scaling_instances(InstanceIds=[INSTANCE, OTHER])
            scaling.describe_lifecycle_hooks(AutoScalingGroupName=GROUP, LifecycleHookNames=[HOOK])
            queue.receive_message(QueueUrl=QUEUE, MaxNumberOfMessages=10, WaitTimeSeconds=20, MessageSystemAttributeNames=["SentTimestamp"])
            queue.delete_message(QueueUrl=QUEUE, ReceiptHandle="handle")
            queue.change_message_visibility_batch(QueueUrl=QUEUE, Entries=[{"Id": "0", "ReceiptHandle": "handle", "VisibilityTimeout": 0}])
            store.put_object(Bucket="logs", Key="residual/a b+ü/ä.log", Body=b"line\n", Metadata={"lines": "1"}, IfNoneMatch="*")
            upload = store.create_multipart_upload(Bucket="logs", Key="k", ChecksumAlgorithm="CRC32C")["UploadId"]
            store.upload_part(Bucket="logs", Key="k", UploadId=upload, PartNumber=1, Body=b"part")
            parts = {"Parts": [{"PartNumber": 1, "ETag": '"e"'}]}
            store.complete_multipart_upload(Bucket="logs", Key="k", UploadId=upload, MultipartUpload=parts)
            store.abort_multipart_upload(Bucket="logs", Key="k", UploadId=upload)
            store.list_objects_v2(Bucket="logs", Prefix="residual/")
        client(self.world, "autoscaling").complete_lifecycle_action(**NAMES, InstanceId=INSTANCE, LifecycleActionResult="CONTINUE")
        findings, names = judge(self.world.requests)
        self.assertEqual(findings, [])
        self.assertEqual(sorted(set(names)), [
            "autoscaling.CompleteLifecycleAction", "autoscaling.DescribeAutoScalingInstances", "autoscaling.DescribeLifecycleHooks",
            "autoscaling.RecordLifecycleActionHeartbeat", "s3.AbortMultipartUpload", "s3.CompleteMultipartUpload", "s3.CreateMultipartUpload",
            "s3.ListObjectsV2", "s3.PutObject", "s3.UploadPart", "sqs.ChangeMessageVisibilityBatch", "sqs.DeleteMessage", "sqs.ReceiveMessage"])

    def test_a_wrong_secret_is_found(self):
        self.attempt("sqs", "delete_message", secret="another", QueueUrl=QUEUE, ReceiptHandle="handle")
        self.found("signature does not match")

    def test_a_body_changed_after_signing_is_found(self):
        self.attempt("sqs", "delete_message", QueueUrl=QUEUE, ReceiptHandle="handle")
        self.found("signature does not match", lambda raw: raw.update(body=base64.b64encode(b'{"QueueUrl":"q","ReceiptHandle":"h"}').decode()))

    def test_a_header_outside_the_signature_is_found(self):
        self.attempt("s3", "put_object", Bucket="logs", Key="k", Body=b"")
        self.found("x-amz-acl is not signed", lambda raw: raw["headers"].append(["x-amz-acl", "private"]))

    def test_a_missing_session_token_is_found(self):
        self.attempt("sqs", "delete_message", key="ASIAEXAMPLE", QueueUrl=QUEUE, ReceiptHandle="handle")
        self.found("session token", lambda raw: raw.update(headers=[pair for pair in raw["headers"] if pair[0] != "X-Amz-Security-Token"]))

    def test_a_missing_parameter_is_found(self):
        self.attempt("autoscaling", "complete_lifecycle_action", **NAMES, InstanceId=INSTANCE)
        self.found('Missing required parameter in input: "LifecycleActionResult"')

    def test_neither_instance_nor_token_is_found(self):
        self.attempt("autoscaling", "record_lifecycle_action_heartbeat", **NAMES)
        self.found("neither InstanceId nor LifecycleActionToken")

    def test_a_token_of_35_characters_is_found(self):
        self.attempt("autoscaling", "record_lifecycle_action_heartbeat", **NAMES, LifecycleActionToken=TOKEN[:35])
        self.found("LifecycleActionToken has 35 characters")

    def test_an_instance_id_that_is_too_long_is_found(self):
        self.attempt("autoscaling", "record_lifecycle_action_heartbeat", **NAMES, InstanceId=INSTANCE + "5")
        self.found("InstanceId has 20 characters")

    def test_a_hook_name_outside_its_pattern_is_found(self):
        self.attempt("autoscaling", "record_lifecycle_action_heartbeat", **{**NAMES, "LifecycleHookName": "drain logs"}, InstanceId=INSTANCE)
        self.found("LifecycleHookName='drain logs' does not match")

    def test_a_group_name_may_hold_any_script_and_emoji(self):
        self.attempt("autoscaling", "record_lifecycle_action_heartbeat", **{**NAMES, "AutoScalingGroupName": "ウェブ 🚀"}, InstanceId=INSTANCE)
        self.assertEqual(judge(self.world.requests)[0], [])

    def test_a_result_that_does_not_exist_is_found(self):
        self.attempt("autoscaling", "complete_lifecycle_action", **NAMES, InstanceId=INSTANCE, LifecycleActionResult="DONE")
        self.found("LifecycleActionResult='DONE' is none of CONTINUE, ABANDON")

    def test_a_wait_beyond_20_seconds_is_found(self):
        self.attempt("sqs", "receive_message", QueueUrl=QUEUE, WaitTimeSeconds=21)
        self.found("WaitTimeSeconds=21 is outside 0..20")

    def test_a_wrong_type_is_found(self):
        self.attempt("sqs", "change_message_visibility", QueueUrl=QUEUE, ReceiptHandle="handle", VisibilityTimeout=0)
        body = base64.b64encode(json.dumps({"QueueUrl": QUEUE, "ReceiptHandle": "handle", "VisibilityTimeout": "0"}).encode()).decode()
        self.found("Invalid type for parameter VisibilityTimeout", lambda raw: raw.update(body=body))

    def test_a_parameter_outside_the_model_is_found(self):
        self.attempt("sqs", "delete_message", QueueUrl=QUEUE, ReceiptHandle="handle")
        self.found("Handle is not in the model", lambda raw: raw.update(body=base64.b64encode(b'{"Handle":"h"}').decode()))

    def test_a_wrong_checksum_is_found(self):
        self.attempt("s3", "put_object", Bucket="logs", Key="k", Body=b"line", ChecksumCRC32="AAAAAA==")
        self.found("x-amz-checksum-crc32 is not the checksum")

    def test_an_enum_value_that_does_not_exist_is_found(self):
        self.attempt("s3", "put_object", Bucket="logs", Key="k", Body=b"", StorageClass="FREEZER")
        self.found("StorageClass='FREEZER' is none of")

    def test_metadata_without_a_token_is_found(self):
        line = {"method": "GET", "target": "/latest/meta-data/instance-id", "headers": [], "body": ""}
        self.assertIn("IMDSv1", judge([json.dumps(line)])[0][0])

    def test_an_unsigned_request_is_found(self):
        line = {"method": "PUT", "target": "/logs/k", "headers": [], "body": ""}
        self.assertIn("no SigV4 signature", judge([json.dumps(line)])[0][0])

    def test_chunked_bodies_are_unframed_and_their_trailer_is_checked(self):
        framed = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32c:mnG7TA==\r\n\r\n"
        headers = [["content-encoding", "aws-chunked"], ["x-amz-trailer", "x-amz-checksum-crc32c"], ["x-amz-decoded-content-length", "5"],
                   ["x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"]]
        raw = {"method": "PUT", "target": "/logs/k", "headers": headers, "body": base64.b64encode(framed).decode()}
        self.assertEqual(check_requests.signature.check_body(wire.Request(json.dumps(raw)), "s3"), [])
        raw["body"] = base64.b64encode(framed.replace(b"hello", b"hullo")).decode()
        self.assertIn("BadDigest", check_requests.signature.check_body(wire.Request(json.dumps(raw)), "s3")[0])

    def test_checksums_agree_with_their_published_check_values(self):
        # The CRC catalogue's check values: each algorithm over the nine characters 123456789.
        wanted = {"crc32": "cbf43926", "crc32c": "e3069283", "crc64nvme": "ae8b14860a799888"}
        sums = check_requests.signature.CHECKSUMS
        self.assertEqual({name: sums[name](b"123456789").hex() for name in wanted}, wanted)


class Worlds(unittest.TestCase):
    def drive(self, *parts, lies=(), **more):
        """What drive_world.py prints about a small world, and its exit code."""
        world = SmallWorld({INSTANCE: TOKEN, OTHER: OTHER_TOKEN}, lies)
        self.addCleanup(world.close)
        told = {"AWS_ENDPOINT_URL_AUTO_SCALING": world.endpoint, "AWS_EC2_METADATA_SERVICE_ENDPOINT": world.endpoint, "AWS_REGION": REGION,
                "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "SECRETEXAMPLE", "WORLD_INSTANCE": INSTANCE,
                "WORLD_CLI_INSTANCE": OTHER, "WORLD_GROUP": GROUP, "WORLD_HOOK": HOOK, **more}
        ran = subprocess.run([sys.executable, str(FOLDER / "drive_world.py"), *parts], env={**os.environ, **told}, capture_output=True, text=True, timeout=180)
        self.assertEqual(ran.stderr, "")
        return ran.returncode, ran.stdout

    def test_an_honest_world_passes(self):
        code, said = self.drive("imds", "autoscaling")
        self.assertEqual((code, said.count("WRONG")), (0, 0), said)
        self.assertGreater(said.count("ok "), 15)

    def test_each_lie_is_found(self):
        for lie, text in (("imdsv1", "without a token"), ("global timeout", "100 heartbeats"), ("error code", "stale token")):
            code, said = self.drive("imds", "autoscaling", lies=[lie])
            self.assertEqual(code, 1, said)
            self.assertTrue(any(line.startswith("WRONG") and text in line for line in said.splitlines()), said)

    def test_an_endpoint_elsewhere_is_refused(self):
        with self.assertRaisesRegex(AssertionError, "not on this machine"):
            self.drive("s3", AWS_ENDPOINT_URL_S3="https://s3.amazonaws.com")

    def test_the_commands_that_users_type_pass_against_moto(self):
        with subprocess.Popen([sys.executable, str(FOLDER / "run_moto.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as moto:
            told = json.loads(moto.stdout.readline())
            moto.stdin.write(f"send direct {OTHER} {GROUP.replace(' ', '%20')} {HOOK} {OTHER_TOKEN}\n")
            moto.stdin.flush()
            moto.stdout.readline()
            code, said = self.drive("cli", AWS_ENDPOINT_URL_SQS=told["endpoint"], AWS_ENDPOINT_URL_S3=told["endpoint"],
                                    WORLD_QUEUE_URL=told["queue_url"], WORLD_BUCKET=told["bucket"])
            moto.stdin.close()
        self.assertEqual((code, said.count("ok ")), (0, 4), said)


class Conf(unittest.TestCase):
    def check(self, part, file, old, new):
        """What check_conf.py prints about this part of conf/, after one edit."""
        with tempfile.TemporaryDirectory() as folder:
            conf = Path(shutil.copytree(FOLDER.parent.parent / "conf", Path(folder, "conf")))
            text = (conf / file).read_text()
            self.assertIn(old, text)
            (conf / file).write_text(text.replace(old, new))
            return subprocess.run([sys.executable, str(FOLDER / "check_conf.py"), str(conf), part], capture_output=True, text=True).stdout

    def test_each_kind_of_mistake_is_found(self):
        for part, file, old, new, finding in (
            ("policies", "iam/instance-policy.json", "sqs:DeleteMessage", "sqs:DropMessage", "no action that botocore knows"),
            ("cloudformation", "cloudformation/affluent.yaml", "HeartbeatTimeout: 120", "HeartbeatTime: 120", "HeartbeatTime"),
            ("terraform", "terraform/main.tf", '"s3:PutObject", ', "", "lacks ['s3:PutObject']"),
            ("terraform", "terraform/main.tf", 'resource "aws_sqs_queue" "hook" {', 'resource "aws_sqs_queue" "hook"', "terraform: "),
            ("eventbridge", "eventbridge/rule.json", '[\\"web\\"]', '[\\"api\\"]', "misses a termination"),
            ("ssm", "ssm/drain-document.json", "{{ Configuration }}", "{{ File }}", "parameter File is used and not declared"),
            ("unit", "systemd/affluent.service", "Type=simple", "Type=forking", "Type is forking"),
            ("logrotate", "logrotate/affluent", "USR1", "HUP", "reopen its log"),
        ):
            self.assertIn(finding, self.check(part, file, old, new), file)


if __name__ == "__main__":
    unittest.main()
