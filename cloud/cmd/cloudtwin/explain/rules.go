package explain

// deliveryRules are the nine checks of a delivery in their order.
var deliveryRules = [...]string{
	"the HTTP signature is that of a known access key",
	"the caller is a role session of a system account",
	"LBCERT parses, is no CA, was signed by IAMCERT, is within its validity and not revoked",
	"LBCERT's CN is the instance whose role session calls",
	"the timestamp is at most 10 minutes old and at most 60 s ahead",
	"the request is signed by LBCERT's key",
	"the request was not seen before",
	"the role's policies allow iam:DownloadServerCertificate on the ARN",
	"the certificate exists",
}

// outside are the reasons that belong to none of them.
var outside = map[string]string{
	"request-malformed": "after check 2: every field of the request is there and can be read",
	"profile-refused":   "after check 2: the request is of a profile that this cloud answers",
	"internal":          "the cloud itself worked",
}

// formSteps are what the front door asks of a request before it looks at its signature, by the error code of who fails
// one.
var formSteps = map[string]frontStep{
	"RequestEntityTooLarge": {
		"the request is no larger than any of these APIs is", "a body of at most 1 MB",
	},
	"MalformedQueryString": {
		"every parameter of query and body can be read, and is there once", "each parameter once, in a form's encoding",
	},
	"UnsupportedMediaType": {
		"the body is a form", "the content type application/x-www-form-urlencoded",
	},
	"IncompleteBody": {
		"the body is as long as the request says", "as many bytes as Content-Length announces",
	},
}

// frontStep is one of the front door's own steps.
type frontStep struct{ rule, wanted string }

// signatureSteps are the steps of checking an HTTP signature by the error code of who fails one.
var signatureSteps = map[string]frontStep{
	"MissingAuthenticationToken": {
		"the request is signed",
		"an Authorization header of AWS4-HMAC-SHA256, or a presigned query",
	},
	"IncompleteSignature": {
		"every part of the signature is there and can be read",
		"Credential, SignedHeaders, Signature and X-Amz-Date, each once, and a signed body",
	},
	"InvalidClientTokenId": {
		"the access key is known and the session token is its own",
		"an active access key; for a role session also its X-Amz-Security-Token",
	},
	"SignatureDoesNotMatch": {
		"the signature is that of the access key's secret over what arrived, and its time is within the skew",
		"the secret that belongs to the access key, and method, path, query, signed headers and body as they were signed",
	},
	"RequestExpired": {
		"the time of signing is within the skew",
		"a clock within 15 minutes of the cloud's",
	},
	"ExpiredToken": {
		"the session has not ended",
		"new credentials of the role, from the metadata service",
	},
	"AuthFailure": {
		"the access key is known and the signature is that of its secret",
		"an active access key with its secret",
	},
}
