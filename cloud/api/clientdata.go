package api

import (
	"encoding/json"
	"fmt"
	"net/url"
)

// ClientData returns the files of a folder that makes botocore-based clients find endpoint, by path within the
// folder, when the environment variable AWS_DATA_PATH names it. Clients since botocore 1.31 and aws-cli 2.13 read
// AWS_ENDPOINT_URL and need none of it; Debian 12's aws-cli 2.9 and python3-boto3 1.26 do not know that variable, but
// take the rules by which they choose an endpoint from this folder before their own. --endpoint-url and endpoint_url
// still win.
func ClientData(endpoint string) (map[string][]byte, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("make client data: %q is not an http or https URL", endpoint)
	}
	builtIn := func(name, kind string) map[string]any {
		p := map[string]any{"builtIn": name, "type": kind, "documentation": "", "required": false}
		if kind == "Boolean" {
			p["required"], p["default"] = true, false
		}
		return p
	}
	use := func(conditions []any, target any) map[string]any {
		return map[string]any{
			"type": "endpoint", "conditions": conditions,
			"endpoint": map[string]any{"url": target, "properties": map[string]any{}, "headers": map[string]any{}},
		}
	}
	given := map[string]any{"ref": "Endpoint"}
	rules, err := json.MarshalIndent(map[string]any{
		"version": "1.0",
		"parameters": map[string]any{
			"Region": builtIn("AWS::Region", "String"), "Endpoint": builtIn("SDK::Endpoint", "String"),
			"UseFIPS": builtIn("AWS::UseFIPS", "Boolean"), "UseDualStack": builtIn("AWS::UseDualStack", "Boolean"),
			"UseGlobalEndpoint": builtIn("AWS::STS::UseGlobalEndpoint", "Boolean"),
		},
		"rules": []any{
			use([]any{map[string]any{"fn": "isSet", "argv": []any{given}}}, given),
			use([]any{}, endpoint),
		},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("make client data: %w", err)
	}
	files := map[string][]byte{}
	for _, service := range []string{"iam/2010-05-08", "sts/2011-06-15", "elb/2012-06-01", "ec2/2016-11-15"} {
		files[service+"/endpoint-rule-set-1.json"] = append(rules, '\n')
	}
	return files, nil
}
