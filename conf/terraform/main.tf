# A group whose instances deliver their logs before they go: hook, queue, bucket, rights. The same as conf/cloudformation/affluent.yaml.

terraform {
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "group_name" {
  type        = string
  default     = "web"
  description = "Also part of the rights, so that an instance can release only the hooks of its own group."
}

variable "image_id" {
  type        = string
  description = "An image with affluent and its unit installed."
}

variable "instance_type" {
  type    = string
  default = "t3.medium"
}

variable "subnet_ids" {
  type = list(string)
}

variable "bucket_name" {
  type        = string
  description = "Receives what no collector took."
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

resource "aws_s3_bucket" "spill" {
  bucket = var.bucket_name
}

resource "aws_s3_bucket_public_access_block" "spill" {
  bucket                  = aws_s3_bucket.spill.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_lifecycle_configuration" "spill" {
  bucket = aws_s3_bucket.spill.id

  # A drain that was cut off leaves parts that cost money until they are aborted.
  rule {
    id     = "abort-unfinished"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }

  rule {
    id     = "expire"
    status = "Enabled"
    filter {
      prefix = "residual/"
    }
    expiration {
      days = 90
    }
  }
}

# One queue for the whole group and no redrive policy: with N instances a message is received N times on average before its
# owner sees it, and a receive count that moves it away would take the letter from its owner.
resource "aws_sqs_queue" "hook" {
  name                      = "${var.group_name}-hook"
  message_retention_seconds = 3600
  receive_wait_time_seconds = 20
  sqs_managed_sse_enabled   = true
}

resource "aws_iam_role" "hook" {
  name_prefix = "${var.group_name}-hook-"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "autoscaling.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "hook" {
  role = aws_iam_role.hook.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["sqs:SendMessage", "sqs:GetQueueUrl"]
      Resource = aws_sqs_queue.hook.arn
    }]
  })
}

resource "aws_iam_role" "instance" {
  name_prefix = "${var.group_name}-instance-"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ec2.${data.aws_partition.current.dns_suffix}" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy" "instance" {
  role = aws_iam_role.instance.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "ReleaseTheHook"
        Effect   = "Allow"
        Action   = ["autoscaling:CompleteLifecycleAction", "autoscaling:RecordLifecycleActionHeartbeat"]
        Resource = "arn:${data.aws_partition.current.partition}:autoscaling:${data.aws_region.current.name}:${data.aws_caller_identity.current.account_id}:autoScalingGroup:*:autoScalingGroupName/${var.group_name}"
      },
      {
        Sid      = "LookBeforeReleasing"
        Effect   = "Allow"
        Action   = ["autoscaling:DescribeAutoScalingInstances", "autoscaling:DescribeLifecycleHooks"]
        Resource = "*"
      },
      {
        Sid      = "ReadTheLetter"
        Effect   = "Allow"
        Action   = ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes", "sqs:GetQueueUrl"]
        Resource = aws_sqs_queue.hook.arn
      },
      {
        Sid      = "SpillWhatNobodyTook"
        Effect   = "Allow"
        Action   = ["s3:PutObject", "s3:AbortMultipartUpload"]
        Resource = "${aws_s3_bucket.spill.arn}/residual/*"
      },
    ]
  })
}

resource "aws_iam_instance_profile" "instance" {
  name_prefix = "${var.group_name}-"
  role        = aws_iam_role.instance.name
}

resource "aws_launch_template" "instance" {
  name_prefix   = "${var.group_name}-"
  image_id      = var.image_id
  instance_type = var.instance_type

  iam_instance_profile {
    arn = aws_iam_instance_profile.instance.arn
  }

  metadata_options {
    http_endpoint          = "enabled"
    http_tokens            = "required"
    instance_metadata_tags = "enabled"
    # 2 where the agent runs in a container with a network of its own.
    http_put_response_hop_limit = 1
  }
}

resource "aws_autoscaling_group" "group" {
  name                = var.group_name
  min_size            = 1
  max_size            = 4
  vpc_zone_identifier = var.subnet_ids

  launch_template {
    id      = aws_launch_template.instance.id
    version = aws_launch_template.instance.latest_version
  }

  # Inside the group, not a resource of its own: that would be destroyed before the group, and the last instances would go undrained.
  initial_lifecycle_hook {
    name                 = "drain-logs"
    lifecycle_transition = "autoscaling:EC2_INSTANCE_TERMINATING"
    # The agent's heartbeats extend it; this is what a dead agent costs.
    heartbeat_timeout       = 120
    default_result          = "CONTINUE"
    notification_target_arn = aws_sqs_queue.hook.arn
    role_arn                = aws_iam_role.hook.arn
  }

  # The hook's test message and its first letters need the right to be sent.
  depends_on = [aws_iam_role_policy.hook]
}

output "queue_url" {
  value       = aws_sqs_queue.hook.url
  description = "For queue_url in <drain>."
}

output "bucket" {
  value       = aws_s3_bucket.spill.bucket
  description = "For s3_bucket in <spill>."
}
