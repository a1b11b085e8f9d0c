"""Assumes a role that wants a code of an MFA device, with boto3 as it is installed, and prints what it saw."""
import base64
import hashlib
import hmac
import json
import os
import struct
import time

import boto3
from botocore.exceptions import ClientError

url = os.environ["AWS_ENDPOINT_URL"]
iam = boto3.client("iam", endpoint_url=url)
account = boto3.client("sts", endpoint_url=url).get_caller_identity()["Account"]


def show(*words):
    print(*words, flush=True)


def totp(seed, step):
    digest = hmac.new(base64.b32decode(seed), struct.pack(">Q", step), hashlib.sha1).digest()
    at = digest[-1] & 15
    return "%06d" % ((struct.unpack(">I", digest[at:at + 4])[0] & 0x7FFFFFFF) % 1000000)


iam.create_user(UserName="ann")
iam.put_user_policy(UserName="ann", PolicyName="assume", PolicyDocument=json.dumps({
    "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": "*"}]}))
arn = iam.create_role(RoleName="guarded", AssumeRolePolicyDocument=json.dumps({
    "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Principal": {"AWS": account}, "Action": "sts:AssumeRole",
        "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}]}))["Role"]["Arn"]
device = iam.create_virtual_mfa_device(VirtualMFADeviceName="ann")["VirtualMFADevice"]
serial, seed = device["SerialNumber"], device["Base32StringSeed"]
# A code that is shown next is taken as well: no half minute has to pass.
now = int(time.time()) // 30
iam.enable_mfa_device(UserName="ann", SerialNumber=serial, AuthenticationCode1=totp(seed, now - 1),
                      AuthenticationCode2=totp(seed, now))
key = iam.create_access_key(UserName="ann")["AccessKey"]
sts = boto3.client("sts", endpoint_url=url, aws_access_key_id=key["AccessKeyId"],
                   aws_secret_access_key=key["SecretAccessKey"])


def assume(word, **more):
    try:
        out = sts.assume_role(RoleArn=arn, RoleSessionName="visit", **more)
        show(word, out["AssumedRoleUser"]["Arn"])
    except ClientError as e:
        show(word, e.response["Error"]["Code"])


assume("none")
assume("bad", SerialNumber=serial, TokenCode="000000")
assume("good", SerialNumber=serial, TokenCode=totp(seed, now + 1))
assume("spent", SerialNumber=serial, TokenCode=totp(seed, now + 1))

iam.delete_access_key(UserName="ann", AccessKeyId=key["AccessKeyId"])
iam.deactivate_mfa_device(UserName="ann", SerialNumber=serial)
iam.delete_virtual_mfa_device(SerialNumber=serial)
iam.delete_user_policy(UserName="ann", PolicyName="assume")
iam.delete_user(UserName="ann")
iam.delete_role(RoleName="guarded")
show("left", iam.list_virtual_mfa_devices()["VirtualMFADevices"], [u["UserName"] for u in iam.list_users()["Users"]])
