package badinput

import (
	"bufio"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
)

const form = "application/x-www-form-urlencoded"

var _ = Describe("A request", func() {
	DescribeTable(
		"for what the cloud does not do is refused",
		expectRefused,
		Entry("unknown action", ask(iamService, "MakeCoffee"), 400, "InvalidAction", "MakeCoffee"),
		Entry("unknown action of EC2", ask(ec2Service, "RunInstance"), 400, "InvalidAction", "RunInstance"),
		Entry("action of another service's version", ask(stsService, "CreateUser", "UserName", "u"), 400, "InvalidAction",
			"CreateUser for version 2011-06-15"),
		Entry("action in another case", ask(iamService, "createuser", "UserName", "u"), 400, "InvalidAction", "createuser"),
		Entry("action that AWS has and this cloud has not", ask(iamService, "CreateLoginProfile", "UserName", aUser), 400,
			"InvalidAction", "CreateLoginProfile of iam is not implemented"),
		Entry("the same of ELB", ask(elbService, "EnableAvailabilityZonesForLoadBalancer", "LoadBalancerName", aBalancer),
			400, "InvalidAction", "EnableAvailabilityZonesForLoadBalancer"),
		Entry("no action", ask(iamService, "").without("Action"), 400, "MissingAction", "Action"),
		Entry("version that is none", ask(iamService, "ListUsers").with("Version", "new"), 400, "InvalidParameterValue",
			"Version"),
		Entry("version of no service", ask(iamService, "ListUsers").with("Version", "1999-01-01"), 400, "InvalidAction",
			"1999-01-01"),
	)

	DescribeTable(
		"without a parameter is refused",
		expectRefused,
		Entry("IAM user name", ask(iamService, "CreateUser"), 400, "ValidationError", "userName"),
		Entry("IAM, two at once", ask(iamService, "UploadServerCertificate", "ServerCertificateName", "n"), 400,
			"ValidationError", "2 validation errors"),
		Entry("STS role", ask(stsService, "AssumeRole", "RoleSessionName", "session"), 400, "ValidationError", "roleArn"),
		Entry("ELB listeners", createBalancer("new").without("Listeners.member.1.Protocol").
			without("Listeners.member.1.LoadBalancerPort").without("Listeners.member.1.InstancePort"), 400, "ValidationError",
			"listeners"),
		Entry("ELB listener's port", createBalancer("new").without("Listeners.member.1.InstancePort"), 400, "ValidationError",
			"instancePort"),
		Entry("ELB zones", createBalancer("new").without("AvailabilityZones.member.1"), 400, "ValidationError",
			"AvailabilityZones"),
		Entry("ELB instances", ask(elbService, "RegisterInstancesWithLoadBalancer", "LoadBalancerName", aBalancer), 400,
			"ValidationError", "nstances"),
		Entry("EC2 image", run().without("ImageId"), 400, "MissingParameter", "ImageId"),
		Entry("EC2 count", run().without("MinCount"), 400, "MissingParameter", "MinCount"),
		Entry("EC2 instance ids", ask(ec2Service, "TerminateInstances"), 400, "MissingParameter", "InstanceId"),
		Entry("EC2 tags", ask(ec2Service, "CreateTags", "ResourceId.1", anInstance), 400, "MissingParameter", "Tag"),
	)

	DescribeTable(
		"with a malformed parameter is refused",
		expectRefused,
		Entry("text for a number", ask(iamService, "ListUsers", "MaxItems", "many"), 400, "MalformedInput", "MaxItems"),
		Entry("number too small", ask(iamService, "ListUsers", "MaxItems", "0"), 400, "ValidationError", "maxItems"),
		Entry("number beyond 64 bits", ask(iamService, "ListUsers", "MaxItems", "99999999999999999999"), 400,
			"MalformedInput", "MaxItems"),
		Entry("marker that is none", ask(iamService, "ListUsers", "Marker", "x"), 400, "ValidationError", "Marker"),
		Entry("value for a list", ask(elbService, "CreateLoadBalancer", "LoadBalancerName", "new", "Listeners", "x"), 400,
			"MalformedInput", "Listeners"),
		Entry("list entry without a number", createBalancer("new").with("Listeners.member.x.Protocol", "HTTP"), 400,
			"MalformedInput", "Listeners.member.x"),
		Entry("list entry twice", createBalancer("new").with("Listeners.member.01.Protocol", "HTTP"), 400, "MalformedInput",
			"Listeners.member."),
		Entry("text for a port", createBalancer("new").with("Listeners.member.1.LoadBalancerPort", "http"), 400,
			"MalformedInput", "LoadBalancerPort"),
		Entry("structure for a value", ask(iamService, "CreateUser", "UserName.member.1", "u"), 400, "MalformedInput",
			"UserName"),
		Entry("text for a count", run().with("MinCount", "one"), 400, "InvalidParameterValue", "MinCount"),
		Entry("text for a truth", run().with("DryRun", "perhaps"), 400, "InvalidParameterValue", "DryRun"),
		Entry("page too small", ask(ec2Service, "DescribeInstances", "MaxResults", "1"), 400, "InvalidParameterValue",
			"axResults"),
		Entry("page token that is none", ask(ec2Service, "DescribeInstances", "NextToken", "x"), 400, "InvalidNextToken",
			"token"),
		Entry("filter that is none", ask(ec2Service, "DescribeInstances", "Filter.1.Name", "color", "Filter.1.Value.1",
			"red"), 400, "InvalidParameterValue", "color"),
		Entry("duration too short", ask(stsService, "GetSessionToken", "DurationSeconds", "1"), 400, "ValidationError",
			"urationSeconds"),
		Entry("role that is no ARN", ask(stsService, "AssumeRole", "RoleSessionName", "session", "RoleArn",
			"role/without-any-account"), 400, "ValidationError", "oleArn"),
		Entry("session name", ask(stsService, "AssumeRole", "RoleArn", accountARN+"role/r", "RoleSessionName",
			"a session"), 400, "ValidationError", "roleSessionName"),
	)

	DescribeTable(
		"whose form cannot be taken is refused",
		expectRefused,
		Entry("XML", ask(iamService, "").raw("text/xml", "<CreateUser><UserName>u</UserName></CreateUser>"), 415,
			"UnsupportedMediaType", "text/xml"),
		Entry("XML that says it is a form", ask(iamService, "").raw(form, "<CreateUser><UserName>u</UserName></CreateUser>"),
			400, "MissingAction", "Action"),
		Entry("JSON", ask(iamService, "").raw("application/x-amz-json-1.1", `{"Action":"CreateUser","UserName":"u"}`), 415,
			"UnsupportedMediaType", "json"),
		Entry("bytes", ask(iamService, "").raw(form, "\x00\xff\xfe\x80"+strings.Repeat("\x01", 100)), 400, "MissingAction",
			"Action"),
		Entry("bytes for a name", ask(iamService, "CreateUser", "UserName", "\xff\xfe\x00"), 400, "ValidationError",
			"userName"),
		Entry("broken escapes", ask(iamService, "").raw(form, "Action=CreateUser&UserName=%zz"), 400, "MalformedQueryString",
			"body"),
		Entry("broken escapes in the query", ask(iamService, "ListUsers").tampered(func(r *http.Request) {
			r.URL.RawQuery = "a=%zz"
		}), 400, "MalformedQueryString", "query"),
		Entry("a parameter twice", ask(iamService, "").raw(form,
			"Action=CreateUser&Version=2010-05-08&UserName=a&UserName=b"), 400, "MalformedQueryString", "UserName"),
		Entry("a parameter in query and body", ask(iamService, "CreateUser", "UserName", "a").to("POST", "/?UserName=b"), 400,
			"MalformedQueryString", "UserName"),
		Entry("too many parameters", manyParameters(10_001), 400, "MalformedQueryString", "parameters"),
		Entry("an action of a megabyte", ask(iamService, strings.Repeat("A", 1<<20-100)), 400, "InvalidAction", "AAA"),
		Entry("a body beyond the bound", ask(iamService, "CreateUser", "UserName", strings.Repeat("u", 1<<20)), 413,
			"RequestEntityTooLarge", "1048576"),
		Entry("another method", ask(iamService, "CreateUser", "UserName", "u").to("PUT", "/"), 405, "MethodNotAllowed",
			"GET or POST"),
		Entry("deletion", ask(iamService, "").to("DELETE", "/user/somebody"), 404, "NotFound", "path"),
		Entry("another path", ask(iamService, "CreateUser", "UserName", "u").to("POST", "/users"), 404, "NotFound", "path"),
		Entry("a path that leads away", ask(iamService, "CreateUser", "UserName", "u").to("POST", "/services/../../etc/"),
			404, "NotFound", "path"),
	)

	It("with headers beyond the bound is refused before it is read", func() {
		before := records.Snapshot()
		a := ask(iamService, "CreateUser", "UserName", "u").altered(func(r *http.Request) {
			r.Header.Set("X-Long", strings.Repeat("x", 100<<10))
		}).send()
		Expect(a.Status).To(Equal(http.StatusRequestHeaderFieldsTooLarge), "%s", a)
		a = ask(iamService, "ListUsers").to("GET", "/?"+url.Values{"a": {strings.Repeat("x", 100<<10)}}.Encode()).send()
		Expect(a.Status).To(Equal(http.StatusRequestHeaderFieldsTooLarge), "%s", a)
		Expect(cmp.Diff(before, records.Snapshot())).To(BeEmpty())
	})

	DescribeTable("that is no HTTP is refused", func(bytes string) {
		address, err := url.Parse(aws.ToString(cloud.Config.BaseEndpoint))
		Expect(err).NotTo(HaveOccurred())
		conn, err := net.Dial("tcp", address.Host)
		Expect(err).NotTo(HaveOccurred())
		DeferCleanup(conn.Close)
		Expect(conn.SetDeadline(time.Now().Add(time.Minute))).To(Succeed())
		_, err = conn.Write([]byte(bytes))
		Expect(err).NotTo(HaveOccurred())
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		Expect(err).NotTo(HaveOccurred())
		defer func() { _ = resp.Body.Close() }()
		Expect(resp.StatusCode).To(And(BeNumerically(">=", 400), BeNumerically("<", 500)))
	},
		Entry("words", "hello, are you a cloud?\r\n\r\n"),
		Entry("a TLS greeting", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
		Entry("a request without host", "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
		Entry("two lengths", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
		Entry("a length that is none", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
	)
})

// manyParameters asks to list users with n parameters more than it takes.
func manyParameters(n int) call {
	c := ask(iamService, "ListUsers")
	for i := range n {
		c.form.Set("Extra."+strconv.Itoa(i), "x")
	}
	return c
}
