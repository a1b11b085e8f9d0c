package clients

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

// loginScript makes key pairs as people do, logs in to an instance with the ssh of their system, and verifies from
// inside what the instance says it is, with the commands of AWS's guide.
const loginScript = `
cd "$HOME"
aws ec2 create-key-pair --key-name mine --key-type ed25519 --query KeyMaterial --output text >mine.pem
chmod 600 mine.pem
told=$(aws ec2 describe-key-pairs --key-names mine --query 'KeyPairs[0].KeyFingerprint' --output text)
[ "SHA256:${told%=}" = "$(ssh-keygen -l -f mine.pem | cut -d ' ' -f 2)" ] && echo same fingerprint
ssh-keygen -q -t rsa -b 2048 -N '' -f own
aws ec2 import-key-pair --key-name own --public-key-material fileb://own.pub --query KeyName --output text

image=$(aws ec2 describe-images --filters Name=name,Values=web --query 'Images[0].ImageId' --output text)
start() { # KEY
	aws ec2 run-instances --image-id $image --key-name $1 --query 'Instances[0].InstanceId' --output text
}
reach() { # INSTANCE: waits until its console tells its host key, which it lets people in with
	for _ in $(seq 300); do
		key=$("$PROGRAM" ps --state "$STATE" --json | python3 -c '
import json, sys
for i in json.load(sys.stdin)["instances"]:
    text = open(i["consolePath"]).read() if i["id"] == "'$1'" and i["state"] == "running" else ""
    if "END SSH HOST KEY KEYS" in text:
        text = text.split("-----BEGIN SSH HOST KEY KEYS-----\n")[1]
        host, port = i["ssh"].split(":")
        print(host, port, "[%s]:%s" % (host, port), " ".join(text.split()[:2]))')
		if [ -n "$key" ]; then
			set -- $key
			host=$1 port=$2
			name=$host; [ $port = 22 ] || name=$3
			echo "$name $4 $5" >known
			return
		fi
		sleep 0.1
	done
	return 1
}
login() { # KEY USER COMMAND...
	local key=$1 user=$2; shift 2
	ssh -F none -i $key -p $port -o IdentitiesOnly=yes -o UserKnownHostsFile=known -o StrictHostKeyChecking=yes \
		-o BatchMode=yes $user@$host "$@"
}

id=$(start mine)
reach $id
aws ec2 describe-instances --instance-ids $id --output text \
	--query 'Reservations[0].Instances[0].[KeyName, PublicIpAddress]' | sed s/$host/ADDRESS/
login mine.pem ec2-user curl -s http://169.254.169.254/latest/meta-data/public-keys/; echo
[ "$(login mine.pem root curl -s http://169.254.169.254/latest/meta-data/instance-id)" = $id ] && echo same instance
echo through the guest | login mine.pem admin cat
login mine.pem root exit 7 || echo status $?
login own root true 2>&1 | sed 's/.*: //' | tr -d '\r' || true

identity() { login mine.pem root curl -s http://169.254.169.254/latest/dynamic/instance-identity/$1; }
"$PROGRAM" identitycert --state "$STATE" >certificate
identity document >document
(echo '-----BEGIN PKCS7-----'; identity rsa2048; echo; echo '-----END PKCS7-----') >rsa2048
openssl smime -verify -in rsa2048 -inform PEM -content document -certfile certificate -noverify 2>&1 >/dev/null
openssl x509 -pubkey -noout -in certificate >key
identity signature | base64 -d >signature
openssl dgst -sha256 -verify key -signature signature document

other=$(start own)
reach $other
login own ec2-user hostname | sed 's/-[0-9].*//'
aws ec2 terminate-instances --instance-ids $id $other >/dev/null
aws ec2 delete-key-pair --key-name mine >/dev/null
aws ec2 delete-key-pair --key-name own >/dev/null
aws ec2 run-instances --image-id $image --key-name own 2>&1 | tail -1 || true
`

var _ = Describe("awscli, ssh and openssl", Label(twin.NeedsSim, twin.Slow), func() {
	It("make key pairs, log in, and verify what an instance says it is", func(ctx context.Context) {
		Expect(lines(shell(ctx, nil, loginScript))).To(HaveExactElements(
			"same fingerprint",
			"own",
			"mine\tADDRESS",
			"0=mine",
			"same instance",
			"through the guest",
			"status 7",
			"Permission denied (publickey).",
			"Verification successful",
			"Verified OK",
			"ip",
			"An error occurred (InvalidKeyPair.NotFound) when calling the RunInstances operation: "+
				"The key pair 'own' does not exist",
		))
	})
})
