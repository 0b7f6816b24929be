"""Runs moto's server for S3, SQS, SNS and EventBridge, wired as a user would wire a hook, until standard input closes.

    python run_moto.py

Prints one JSON line: endpoint, region, bucket, queue_url, topic_arn, rule. Then takes one command a line and answers each with one JSON line:

    send FORM INSTANCE GROUP HOOK TOKEN   (names percent-encoded) a hook's message for the instance, as FORM: direct (into the queue), sns (through the topic),
                                          eventbridge (through the rule), test (the test notification, into the queue)
    objects                               {key: body in base64} of everything in the bucket, and how many messages the queue holds

What moto 5.2.5 cannot show, or shows otherwise than AWS (measured); none of it may be concluded from a run against moto:

* CompleteLifecycleAction and RecordLifecycleActionHeartbeat are not there (500, HTML); a terminated instance is gone at once, without
  Terminating:Wait; putting a hook sends no test notification, and terminating sends none. So the sender here stands in for Auto Scaling,
  and completing is the in-process world's business.
* DescribeLifecycleHooks tells a made-up target and role, and a global timeout of 172800 whatever the heartbeat; a heartbeat timeout
  outside 30..7200 is accepted.
* No signature, secret or token is verified, and no region: a PUT for another Region succeeds.
* S3 takes a wrong checksum. SQS accepts a receipt handle of an earlier receive for delete and for change of visibility.
* PutEvents takes a source aws.*, which AWS reserves (that is why the rule can be tested); a delivered event lacks `account`.
* Instance metadata over HTTP hands out one fixed token for ever, reads without any token, and has no target-lifecycle-state (500).
"""

import base64
import json
import logging
import sys
import uuid
from datetime import datetime, timezone
from urllib.parse import unquote

import boto3
from moto.server import ThreadedMotoServer

REGION, ACCOUNT, BUCKET = "ap-northeast-1", "123456789012", "logs"


def main():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    session = boto3.Session("AKIDEXAMPLE", "SECRETEXAMPLE", region_name=REGION)
    sqs, sns, s3, events = (session.client(name, endpoint_url=endpoint) for name in ("sqs", "sns", "s3", "events"))
    world = build(sqs, sns, s3, events)
    answer({"endpoint": endpoint, "region": REGION, **world})
    for line in sys.stdin:
        word, *names = line.split()
        if word == "send":
            form, *names = names
            answer({"sent": send(form, world, sqs, sns, events, *map(unquote, names))})
        elif word == "objects":
            answer(objects(world, s3, sqs))
        else:
            raise SystemExit(f"unknown command {word}")
    server.stop()


def answer(value):
    print(json.dumps(value), flush=True)


def build(sqs, sns, s3, events):
    """Queue, topic with the queue subscribed, bucket, and a rule that targets the queue."""
    queue = sqs.create_queue(QueueName="my-hook")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = sns.create_topic(Name="hooks")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    pattern = {"source": ["aws.autoscaling"], "detail-type": ["EC2 Instance-terminate Lifecycle Action"]}
    events.put_rule(Name="terminations", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="terminations", Targets=[{"Id": "queue", "Arn": arn}])
    return {"bucket": BUCKET, "queue_url": queue, "topic_arn": topic, "rule": "terminations"}


def objects(world, s3, sqs):
    """What the bucket holds now, and the number of messages in the queue, hidden ones included."""
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
    bodies = {key: s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys}
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    counts = sqs.get_queue_attributes(QueueUrl=world["queue_url"], AttributeNames=names)["Attributes"]
    return {"objects": {key: base64.b64encode(body).decode() for key, body in bodies.items()},
            "messages": sum(int(counts[name]) for name in names)}


def send(form, world, sqs, sns, events, instance="", group="", hook="", token=""):
    """One message in the shape that AWS documents for this way of delivery (EC2 Auto Scaling User Guide, "Prepare to add a lifecycle hook")."""
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    common = {"Service": "AWS Auto Scaling", "Time": now, "RequestId": str(uuid.uuid4()), "AccountId": ACCOUNT}
    detail = {"LifecycleActionToken": token, "AutoScalingGroupName": group, "LifecycleHookName": hook, "EC2InstanceId": instance,
              "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING", "Origin": "AutoScalingGroup", "Destination": "EC2"}
    if form == "direct":
        sqs.send_message(QueueUrl=world["queue_url"], MessageBody=json.dumps({**common, **detail}))
    elif form == "sns":
        subject = f"Auto Scaling:  Lifecycle action 'TERMINATING' for instance {instance} in progress."
        sns.publish(TopicArn=world["topic_arn"], Subject=subject, Message=json.dumps({**common, **detail}))
    elif form == "eventbridge":
        entry = {"Source": "aws.autoscaling", "DetailType": "EC2 Instance-terminate Lifecycle Action", "Detail": json.dumps(detail)}
        if events.put_events(Entries=[entry])["FailedEntryCount"]:
            raise SystemExit("moto refused the event")
    elif form == "test":
        body = {**common, "Event": "autoscaling:TEST_NOTIFICATION", "AutoScalingGroupName": group or "web",
                "AutoScalingGroupARN": f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:{uuid.uuid4()}:autoScalingGroupName/{group or 'web'}"}
        sqs.send_message(QueueUrl=world["queue_url"], MessageBody=json.dumps(body))
    else:
        raise SystemExit(f"unknown form {form}")
    return form


if __name__ == "__main__":
    main()
