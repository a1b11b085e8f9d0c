"""Makes the example with boto3 as it is installed, with its waiters and paginators, and prints what it saw."""
import json
import os
import sys

import boto3
from botocore.exceptions import ClientError

url, role, policy = os.environ["AWS_ENDPOINT_URL"], os.environ["ROLE"], os.environ["POLICY"]
iam, ec2, sts = (boto3.client(s, endpoint_url=url) for s in ("iam", "ec2", "sts"))
quick = {"Delay": 1, "MaxAttempts": 60}


def show(*words):
    print(*words, flush=True)


show("account", sts.get_caller_identity()["Account"])
made = iam.create_role(RoleName=role, AssumeRolePolicyDocument=os.environ["TRUST"], Path="/apps/")
iam.get_waiter("role_exists").wait(RoleName=role, WaiterConfig=quick)
show("role", made["Role"]["Arn"], made["Role"]["AssumeRolePolicyDocument"]["Statement"][0]["Principal"])
iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=os.environ["GRANT"])
document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
show("policy", document == json.loads(os.environ["GRANT"]))
iam.create_instance_profile(InstanceProfileName=role)
iam.get_waiter("instance_profile_exists").wait(InstanceProfileName=role, WaiterConfig=quick)
iam.add_role_to_instance_profile(InstanceProfileName=role, RoleName=role)
profile = iam.get_instance_profile(InstanceProfileName=role)["InstanceProfile"]
show("profile", profile["Arn"], [r["RoleName"] for r in profile["Roles"]])

# Paginators: pages of one and two, every entry once and in order.
for i in range(4):
    iam.create_user(UserName="paged-%d" % i)
    iam.get_waiter("user_exists").wait(UserName="paged-%d" % i, WaiterConfig=quick)
pages = list(iam.get_paginator("list_users").paginate(PaginationConfig={"PageSize": 2}))
show("users", [[u["UserName"] for u in p["Users"]] for p in pages])
show("roles", [r["RoleName"] for r in iam.get_paginator("list_roles").paginate(PathPrefix="/apps/").search("Roles[]")])

image = ec2.describe_images(Filters=[{"Name": "name", "Values": ["web"]}])["Images"][0]["ImageId"]
ids = [i["InstanceId"] for i in ec2.run_instances(
    ImageId=image, MinCount=6, MaxCount=6, IamInstanceProfile={"Arn": profile["Arn"]},
    TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "boto3"}]}])["Instances"]]
ec2.get_waiter("instance_running").wait(InstanceIds=ids, WaiterConfig=quick)
ec2.get_waiter("instance_status_ok").wait(InstanceIds=ids, WaiterConfig=quick)
mine = [{"Name": "tag:Name", "Values": ["boto3"]}]
pages = list(ec2.get_paginator("describe_instances").paginate(Filters=mine, PaginationConfig={"PageSize": 5}))
seen = [i for p in pages for r in p["Reservations"] for i in r["Instances"]]
show("instances", [sum(len(r["Instances"]) for r in p["Reservations"]) for p in pages],
     sorted(i["InstanceId"] for i in seen) == sorted(ids), {i["IamInstanceProfile"]["Arn"] for i in seen})
links = ec2.get_paginator("describe_iam_instance_profile_associations").paginate(
    Filters=[{"Name": "instance-id", "Values": ids}], PaginationConfig={"PageSize": 5})
links = list(links.search("IamInstanceProfileAssociations[]"))
show("associations", len(links), {a["State"] for a in links})

try:
    iam.delete_role(RoleName=role)
except ClientError as e:
    show("refused", e.response["Error"]["Code"], e.response["ResponseMetadata"]["HTTPStatusCode"])
try:
    iam.get_role(RoleName="no-such-role")
except iam.exceptions.NoSuchEntityException as e:
    show("refused", e.response["Error"]["Code"], e.response["ResponseMetadata"]["HTTPStatusCode"])

ec2.terminate_instances(InstanceIds=ids)
ec2.get_waiter("instance_terminated").wait(InstanceIds=ids, WaiterConfig=quick)
iam.remove_role_from_instance_profile(InstanceProfileName=role, RoleName=role)
iam.delete_instance_profile(InstanceProfileName=role)
iam.delete_role_policy(RoleName=role, PolicyName=policy)
iam.delete_role(RoleName=role)
for i in range(4):
    iam.delete_user(UserName="paged-%d" % i)
show("left", iam.list_roles()["Roles"], iam.list_users()["Users"], iam.list_instance_profiles()["InstanceProfiles"])
sys.exit(0)
