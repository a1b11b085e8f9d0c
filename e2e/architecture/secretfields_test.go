package architecture

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// secretName finds the fields that by their names hold something that must not be shown, keyName those that do when
// they are bytes: most keys that are texts are those of maps and tables.
var (
	secretName = regexp.MustCompile(`(?i)(secret|secretaccesskey|token|password|passphrase|pin|privatekey|instancekey)$`)
	keyName    = regexp.MustCompile(`(?i)key$`)
)

// plainType finds the types that print what they hold, plainBytes those of them that are bytes.
var (
	plainType  = regexp.MustCompile(`^\*?(string|\[\w*\]byte|\[\]string)$`)
	plainBytes = regexp.MustCompile(`^\*?\[\w*\]byte$`)
)

// redactors are the methods by one of which a struct keeps its secrets to itself.
var redactors = []string{"LogValue", "Format", "String", "GoString"}

// notSecret are the fields whose names say more than they hold, and those of structs that nobody outside their package
// can get hold of to print, with the reason. A new one is better made of a type that redacts itself.
var notSecret = map[string]string{
	"cloud/authn.signingKey.key":                   "a derived signing key; it never leaves the verifier's cache",
	"cloud/authn.scopeKey.secret":                  "the name of such a key in that cache",
	"cloud/authn.signature.token":                  "what a request said, on its way to the lookup that compares it",
	"cloud/ec2.Instance.ClientToken":               "RunInstances' name for a request that may be repeated: no secret",
	"cloud/ec2.Launch.ClientToken":                 "the same",
	"cloud/ec2.launchSpec.clientToken":             "the same",
	"cloud/iam.TokenURI.Token":                     "the label of a PKCS#11 token",
	"cloud/iam.accessKey.secret":                   "opened from its record for the verifier; it never leaves iam's cache",
	"cloud/iam.accessKeyRecord.Secret":             "sealed with the root key",
	"cloud/iam.claims.Secret":                      "marshalled to be sealed into a session token, and nothing else",
	"cloud/iam.openedToken.token":                  "compared with what a request shows; it never leaves iam's cache",
	"cloud/keydelivery.credentialFile.IAMToken":    "the word NULL",
	"cloud/keydelivery.credentialFile.InstanceKey": "the medium's own file as it is written, wiped with its bytes",
	"lbvm-image/agent/metadata.Client.token":       "the guest's own, for its own metadata service",
	"node.Config.Token":                            "used up by the enrolment that it is for",
	"node/imds.Config.TokenKey":                    "handed to the service when the node starts",
	"node/imds.minter.key":                         "that key in its one user",
	"node/imds.roleCredentials.SecretAccessKey":    "the document that a guest asks for, as it is written",
	"node/imds.roleCredentials.Token":              "the same",
}

// TestSecretsAreOfTypesThatRedactThemselves reads every struct of the product: a field that by its name holds a secret
// is of a type that redacts itself, such as keydelivery.Secret, or its struct does, or it is listed above.
func TestSecretsAreOfTypesThatRedactThemselves(t *testing.T) {
	used := map[string]bool{}
	for _, top := range []string{"cloud", "node", "lbvm-image"} {
		err := filepath.WalkDir(filepath.Join("..", "..", top), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !entry.IsDir() {
				return err
			}
			if name, _ := filepath.Rel(filepath.Join("..", ".."), path); name == "cloud/cmd" || name == "cloud/model" {
				return fs.SkipDir // they call the others; the wire's types are the front door's, which redacts by their tags
			}
			for _, field := range plainSecrets(t, path) {
				if used[field] = true; notSecret[field] == "" {
					t.Errorf("%s holds a secret by its name and is of a type that prints it: make it a type that redacts "+
						"itself (cloud/keydelivery.Secret), have its struct do so (%s), or say in notSecret why it need not",
						field, strings.Join(redactors, ", "))
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for field := range notSecret {
		if !used[field] {
			t.Errorf("notSecret has %s, which is there no more", field)
		}
	}
}

// plainSecrets are the fields of the structs of a folder that hold secrets by their names, in types that print them.
func plainSecrets(t *testing.T, folder string) (found []string) {
	t.Helper()
	path, err := filepath.Rel(filepath.Join("..", ".."), folder)
	if err != nil {
		t.Fatal(err)
	}
	redacts, structs := declarations(t, folder)
	for name, s := range structs {
		if redacts[name] {
			continue
		}
		for _, field := range s.Fields.List {
			for _, one := range field.Names {
				if printsSecret(one.Name, typeText(field.Type)) {
					found = append(found, path+"."+name+"."+one.Name)
				}
			}
		}
	}
	slices.Sort(found)
	return found
}

func printsSecret(field, kind string) bool {
	return secretName.MatchString(field) && plainType.MatchString(kind) ||
		keyName.MatchString(field) && plainBytes.MatchString(kind)
}

// declarations are the structs of a folder, and those types of it that redact themselves.
func declarations(t *testing.T, folder string) (redacts map[string]bool, structs map[string]*ast.StructType) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	redacts, structs = map[string]bool{}, map[string]*ast.StructType{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || strings.HasSuffix(file, ".pb.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				if n.Recv != nil && slices.Contains(redactors, n.Name.Name) {
					redacts[strings.TrimPrefix(typeText(n.Recv.List[0].Type), "*")] = true
				}
				return false
			case *ast.TypeSpec:
				if s, ok := n.Type.(*ast.StructType); ok {
					structs[n.Name.Name] = s
				}
			}
			return true
		})
	}
	return redacts, structs
}

// typeText is how the types that plainType knows are written; empty for others.
func typeText(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return "*" + typeText(e.X)
	case *ast.ArrayType:
		size := ""
		switch length := e.Len.(type) {
		case *ast.Ident:
			size = length.Name
		case *ast.BasicLit:
			size = length.Value
		}
		return "[" + size + "]" + typeText(e.Elt)
	}
	return ""
}
