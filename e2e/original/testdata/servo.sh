#!/bin/sh
# Fetches the certificate and key behind an ARN with openssl and curl alone, as the original load-balancer guest does.
#
#   servo.sh CREDENTIAL ARN URL FOLDER
#
# CREDENTIAL is the floppy's file; the role's credentials are in AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
# AWS_SESSION_TOKEN. FOLDER receives certificate.pem and key.pem. Nothing that outlives it is in a command line.
set -eu
credential=$1 arn=$2 url=$3 folder=$4
umask 077
cd "$folder"

field() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" "$credential"; }
field instance_pk | base64 -d > lbpk.pem
field instance_pub_key | base64 -d > lbcert.pem
field iam_pub_key | base64 -d > iamcert.pem

timestamp=$(date -u +%Y-%m-%dT%H:%M:%SZ)
printf '%s&%s' "$arn" "$timestamp" > signed
signature=$(openssl dgst -sha256 -sign lbpk.pem signed | base64)

# base64 wraps at 76 columns here, as the original's did.
printf 'user = "%s:%s"\nheader = "x-amz-security-token: %s"\n' \
	"$AWS_ACCESS_KEY_ID" "$AWS_SECRET_ACCESS_KEY" "$AWS_SESSION_TOKEN" |
	curl --silent --show-error --fail-with-body --config - --aws-sigv4 aws:amz:us-east-1:euare --output answer.xml \
		--data-urlencode Action=DownloadServerCertificate --data-urlencode Version=2010-05-08 \
		--data-urlencode "CertificateArn=$arn" --data-urlencode "DelegationCertificate=$(base64 lbcert.pem)" \
		--data-urlencode "AuthSignature=$(field iam_token)" --data-urlencode "Timestamp=$timestamp" \
		--data-urlencode "Signature=$signature" "$url" || { cat answer.xml >&2; exit 1; }

element() { awk -v RS='<' -v FS='>' -v name="$1" '$1 == name { print $2; exit }' answer.xml | sed 's/&#xA;/\n/g'; }
[ "$(element euca:certificateArn)" = "$arn" ]
printf '%s&%s' "$(element euca:serverCertificate)" "$(element euca:serverPk)" > answered
element euca:signature | base64 -d > signature
openssl x509 -in iamcert.pem -pubkey -noout > iam.pem
openssl dgst -sha256 -verify iam.pem -signature signature answered >&2

element euca:serverPk | sed -n 1p | base64 -d > wrapped
openssl pkeyutl -decrypt -inkey lbpk.pem -in wrapped -out symmetric
element euca:serverPk | sed -n 2p | base64 -d > sealed
hex() { od -An -v -tx1 | tr -d ' \n'; }
# openssl takes a key as an argument alone; it is this answer's and good for nothing else.
tail -c +17 sealed | openssl enc -d -aes-256-cbc -K "$(hex < symmetric)" -iv "$(head -c 16 sealed | hex)" |
	base64 -d > key.pem
element euca:serverCertificate | base64 -d > certificate.pem
rm -f lbpk.pem symmetric
