package main

import "strings"

// notes say what an operation lacks, or why it is not here.
func notes() map[string]string {
	all := map[string]string{
		"AssumeRole":                         "ProvidedContexts is refused",
		"AssumeRoleWithSAML":                 "encrypted assertions are refused",
		"AssumeRoleWithWebIdentity":          "OpenID Connect only; the provider's server must be on a loopback address",
		"CreateKeyPair":                      "the format ppk is refused; puttygen makes it of the pem",
		"CreateOpenIDConnectProvider":        "the URL may name a port; its server must be on a loopback address",
		"CreateServiceLinkedRole":            "for elasticloadbalancing.amazonaws.com only",
		"GenerateServiceLastAccessedDetails": "knows this cloud's services; made at once, without waiting",
		"RunInstances": "refused: block devices, subnets, security groups but `default`, network interfaces, chosen " +
			"addresses and IPv6, launch templates, kernel and RAM disk, GPUs, enclaves, hibernation, spot, protection from " +
			"ending; no effect: CpuOptions, CreditSpecification, Monitoring, InstanceInitiatedShutdownBehavior",
		"ListPolicies": "of AWS's own policies, the most used; they tell this cloud's services",
	}
	add := func(note, operations string) {
		for _, op := range strings.Fields(operations) {
			all[op] = note
		}
	}
	add("users of this cloud have no passwords: it has no console", "ChangePassword CreateLoginProfile "+
		"UpdateLoginProfile UpdateAccountPasswordPolicy")
	add("NoSuchEntity: there are no passwords", "DeleteLoginProfile GetLoginProfile GetAccountPasswordPolicy "+
		"DeleteAccountPasswordPolicy")
	add("SSH keys are for CodeCommit, which is not here", "UploadSSHPublicKey GetSSHPublicKey "+
		"UpdateSSHPublicKey DeleteSSHPublicKey")
	add("such credentials are for services that are not here", "CreateServiceSpecificCredential "+
		"DeleteServiceSpecificCredential ResetServiceSpecificCredential UpdateServiceSpecificCredential")
	add("lists none: nobody can have any here", "ListSSHPublicKeys ListServiceSpecificCredentials")
	add("AWS Organizations is not here", "GenerateOrganizationsAccessReport GetOrganizationsAccessReport")
	add("there is one kind of session token", "SetSecurityTokenServicePreferences")
	add("CallerArn is a user's, as on AWS; ResourceHandlingOption has no effect; of AWS Organizations, the account's own "+
		"service control policies", "SimulatePrincipalPolicy")
	add("CallerArn is a user's, as on AWS; ResourceHandlingOption has no effect", "SimulateCustomPolicy")
	return all
}
