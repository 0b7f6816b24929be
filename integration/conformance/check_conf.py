"""Checks, offline, what users copy from conf/: that AWS would accept it and that the files agree with one another.

    python check_conf.py CONF_FOLDER [policies] [cloudformation] [terraform] [eventbridge] [ssm] [unit] [logrotate]      (default: all)

Prints one line per finding; exit code 1 where there is one.
"""

import configparser
import json
import re
import subprocess
import sys
from pathlib import Path

import botocore.session
import hcl2
import yaml
from botocore.validate import ParamValidator
from moto.events.models import EventPattern

import check_requests

# What the agent may do, and nothing beyond (lifecycle: everything else was decided to be unnecessary).
NEVER = ("*", "iam:", "ec2:", "ssm:", "sns:", "s3:GetObject", "s3:ListBucket", "s3:DeleteObject")
# A termination as EventBridge delivers it (EC2 Auto Scaling User Guide, "EC2 Instance-terminate Lifecycle Action").
TERMINATION = {
    "version": "0", "id": "c0ffee00-1111-4222-8333-444455556666", "detail-type": "EC2 Instance-terminate Lifecycle Action",
    "source": "aws.autoscaling", "account": "123456789012", "time": "2026-03-01T09:15:42Z", "region": "ap-northeast-1", "resources": [],
    "detail": {"LifecycleActionToken": "5b6c7d8e-1f20-4a3b-9c4d-5e6f70819203", "AutoScalingGroupName": "web", "LifecycleHookName": "drain-logs",
               "EC2InstanceId": "i-0aa11bb22cc33dd44", "LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING"},
}


class Tagged(yaml.SafeLoader):
    """YAML with CloudFormation's short functions: !Sub text becomes its text, !GetAtt a.b its name."""


Tagged.add_multi_constructor("!", lambda loader, tag, node: loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else loader.construct_sequence(node))


def main():
    folder, session = Path(sys.argv[1]), botocore.session.get_session()
    findings = []
    for check in (policies, cloudformation, terraform, eventbridge, ssm, unit, logrotate):
        if sys.argv[2:] and check.__name__ not in sys.argv[2:]:
            continue
        try:
            findings += [f"{check.__name__}: {finding}" for finding in check(folder, session)]
        except Exception as error:  # noqa: BLE001 (a file that cannot be read is a finding like any other)
            findings.append(f"{check.__name__}: {type(error).__name__}: {error}".replace("\n", " "))
    print("\n".join(findings) or "conf is in order")
    sys.exit(1 if findings else 0)


def actions_of(document):
    """Every action of a policy document, whatever its spelling as one or as a list."""
    for statement in document["Statement"]:
        actions = statement["Action"]
        yield from [actions] if isinstance(actions, str) else actions


def instance_actions(folder):
    return set(actions_of(json.loads((folder / "iam/instance-policy.json").read_text())))


def policies(folder, session):
    for file in sorted((folder / "iam").glob("*.json")):
        document = json.loads(file.read_text())
        if document["Version"] != "2012-10-17":
            yield f"{file.name}: Version is {document['Version']}"
        for action in actions_of(document):
            service, _, operation = action.partition(":")
            if operation not in session.get_service_model(service).operation_names:
                yield f"{file.name}: {action} is no action that botocore knows"
        for statement in document["Statement"]:
            resource = statement.get("Resource", "*")
            if resource != "*" and not re.fullmatch(r"arn:aws:[a-z0-9]+:[a-z0-9-]*:\d*:\S+", resource):
                yield f"{file.name}: {resource} is no ARN"
    for action in instance_actions(folder):
        if action.startswith(NEVER):
            yield f"instance-policy.json: {action} is more than the agent needs"


def cloudformation(folder, session):
    file = folder / "cloudformation/affluent.yaml"
    lint = subprocess.run([Path(sys.executable).with_name("cfn-lint"), str(file)], capture_output=True, text=True)
    if lint.returncode:
        yield lint.stdout.strip().replace("\n", " ")
    template = yaml.load(file.read_text(), Tagged)
    of_type = {}
    for resource in template["Resources"].values():
        of_type.setdefault(resource["Type"], []).append(resource.get("Properties", {}))
    if "AWS::AutoScaling::LifecycleHook" in of_type:
        yield "the hook is a resource of its own: deleted before the group, the last instances go undrained"
    hook = of_type["AWS::AutoScaling::AutoScalingGroup"][0]["LifecycleHookSpecificationList"][0]
    yield from put_lifecycle_hook(session, hook["LifecycleHookName"], hook["LifecycleTransition"], hook["HeartbeatTimeout"], hook["DefaultResult"])
    if "RedrivePolicy" in of_type["AWS::SQS::Queue"][0]:
        yield "a shared hook queue must have no redrive policy"
    if of_type["AWS::EC2::LaunchTemplate"][0]["LaunchTemplateData"]["MetadataOptions"]["HttpTokens"] != "required":
        yield "the launch template allows IMDSv1"
    granted = {action for role in of_type["AWS::IAM::Role"] for policy in role["Policies"] for action in actions_of(policy["PolicyDocument"])}
    yield from same_rights(folder, granted)


def terraform(folder, session):
    file = folder / "terraform/main.tf"
    text = file.read_text()
    tree = hcl2.loads(text)
    kinds = [kind.strip('"') for resource in tree["resource"] for kind in resource]
    if "aws_autoscaling_lifecycle_hook" in kinds:
        yield "the hook is a resource of its own: destroyed before the group, the last instances go undrained"
    hook = dict(re.findall(r"^ +(\w+) += +\"?([^\"\n]+?)\"?$", text.partition("initial_lifecycle_hook {")[2].partition("\n  }")[0], re.MULTILINE))
    yield from put_lifecycle_hook(session, hook["name"], hook["lifecycle_transition"], int(hook["heartbeat_timeout"]), hook["default_result"])
    if "redrive_policy" in text:
        yield "a shared hook queue must have no redrive policy"
    yield from same_rights(folder, set(re.findall(r'"((?:autoscaling|sqs|s3|kms):[A-Z][a-z]\w+)"', text)))


def same_rights(folder, granted):
    """The instance's rights are those of instance-policy.json; the rest is the hook role's."""
    wanted = instance_actions(folder) | set(actions_of(json.loads((folder / "iam/hook-role-policy.json").read_text())))
    if granted != wanted:
        yield f"grants {sorted(granted - wanted)} beyond the policies in iam/ and lacks {sorted(wanted - granted)}"


def put_lifecycle_hook(session, name, transition, timeout, result):
    parameters = {"AutoScalingGroupName": "web", "LifecycleHookName": name, "LifecycleTransition": transition, "HeartbeatTimeout": timeout, "DefaultResult": result}
    yield from fits(session, "autoscaling", "PutLifecycleHook", parameters)
    if transition != "autoscaling:EC2_INSTANCE_TERMINATING":
        yield f"the hook is for {transition}"
    if not 30 <= timeout <= 7200:
        yield f"heartbeat timeout {timeout} is outside 30..7200"


def fits(session, service, operation, parameters):
    """What botocore's model of the operation says against these parameters."""
    shape = session.get_service_model(service).operation_model(operation).input_shape
    report, findings = ParamValidator().validate(parameters, shape), []
    unknown = sorted(set(parameters) - set(shape.members))
    if report.has_errors() or unknown:
        yield report.generate_report() or f"{operation} does not know {unknown}"
        return
    check_requests.walk(parameters, shape, "", service, findings)
    yield from findings


def eventbridge(folder, session):
    rule = json.loads((folder / "eventbridge/rule.json").read_text())
    targets = json.loads((folder / "eventbridge/targets.json").read_text())
    yield from fits(session, "events", "PutRule", rule)
    yield from fits(session, "events", "PutTargets", targets)
    if targets["Rule"] != rule["Name"]:
        yield "targets.json is for another rule"
    if f"rule/{rule['Name']}" not in (folder / "iam/queue-policy.json").read_text():
        yield "queue-policy.json does not admit this rule"
    pattern = EventPattern.load(rule["EventPattern"])
    if not pattern.matches_event(TERMINATION):
        yield "the pattern misses a termination of its own group"
    for key, value in {"detail": {**TERMINATION["detail"], "AutoScalingGroupName": "api"}, "detail-type": "EC2 Instance-launch Lifecycle Action"}.items():
        if pattern.matches_event({**TERMINATION, key: value}):
            yield f"the pattern takes an event with {key} {value}"


def ssm(folder, session):
    text = (folder / "ssm/drain-document.json").read_text()
    document = json.loads(text)
    yield from fits(session, "ssm", "CreateDocument", {"Name": "Affluent-Drain", "Content": text, "DocumentType": "Command", "DocumentFormat": "JSON"})
    if document["schemaVersion"] != "2.2":
        yield "mainSteps want schemaVersion 2.2"
    declared = document["parameters"]
    for name in set(re.findall(r"{{ *(\w+) *}}", json.dumps(document["mainSteps"]))) ^ set(declared):
        yield f"parameter {name} is used and not declared, or declared and not used"
    for name, parameter in declared.items():
        if not re.fullmatch(parameter["allowedPattern"], parameter["default"]):
            yield f"the default of {name} is not allowed by its own pattern"
    for step in document["mainSteps"]:
        script = "\n".join(step["inputs"]["runCommand"])
        for name, parameter in declared.items():
            script = script.replace("{{ %s }}" % name, parameter["default"])
        if step["action"] != "aws:runShellScript" or subprocess.run(["sh", "-n"], input=script, text=True).returncode:
            yield f"step {step['name']} is no shell script that sh can read"
        if "affluent drain" not in script:
            yield f"step {step['name']} does not drain"


def unit(folder, session):
    parsed = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=", comment_prefixes="#")
    parsed.optionxform = str
    parsed.read_string((folder / "systemd/affluent.service").read_text())
    service = parsed["Service"]
    wanted = {"Type": "simple", "Restart": "always", "KillMode": "mixed", "ExecReload": "/bin/kill -HUP $MAINPID", "NoNewPrivileges": "true"}
    for key, value in wanted.items():
        if service.get(key) != value:
            yield f"{key} is {service.get(key)}, not {value}"
    if "MemoryDenyWriteExecute" in service:
        yield "MemoryDenyWriteExecute forbids compiled regular expressions"
    if int(service["TimeoutStopSec"]) < 120:
        yield "TimeoutStopSec is shorter than td-agent's 120 seconds"
    if re.search(r" (-d|--daemon)\b", service["ExecStart"]):
        yield "Type=simple wants a process in the foreground"


def logrotate(folder, session):
    text = (folder / "logrotate/affluent").read_text()
    own = re.search(r"-o (\S+)", (folder / "systemd/affluent.service").read_text().partition("\nExecStart=/usr/sbin/affluent")[2]).group(1)
    if f"\n{own} {{" not in text:
        yield f"does not rotate {own}, which the unit writes"
    if "--signal=USR1" not in text or "--kill-who=main" not in text:
        yield "does not tell the main process, and it alone, to reopen its log"


if __name__ == "__main__":
    main()
