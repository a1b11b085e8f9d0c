package main

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// operations writes the service's description and its table of operations.
func (g *generator) operations() ([]byte, error) {
	m := g.api.Metadata
	protocol := "ProtocolQuery"
	if m.Protocol == "ec2" {
		protocol = "ProtocolEC2"
	}
	namespace := strings.TrimSuffix(m.XMLNamespace, "/") + "/"
	var b bytes.Buffer
	fmt.Fprintf(&b, `// Service describes the service as its model does.
func Service() model.Service {
	return model.Service{
		Name:      %q,
		Version:   %q,
		Namespace: %q,
		Protocol:  model.%s,
	}
}

// Handlers returns the operations that service implements: each method X(context.Context, *XInput) (*XOutput, error)
// answers operation X. It panics if a method has an operation's name and another type.
func Handlers(service any) map[string]model.Handler {
	return model.NewHandlers(Service(), Operations(), service)
}

// Operations returns every operation of the model, by name.
func Operations() []model.Operation {
	return []model.Operation{
`, g.service.action, m.APIVersion, namespace, protocol)
	for _, op := range g.ops {
		fmt.Fprintf(&b, "{Name: %q, ", op)
		if o := g.api.Operations[op].Output; o != nil && o.ResultWrapper != "" {
			fmt.Fprintf(&b, "ResultWrapper: %q, ", o.ResultWrapper)
		}
		fmt.Fprintf(&b, "NewInput: func() any { return new(%sInput) }, Bind: bind%s},\n", op, op)
	}
	b.WriteString("}\n}\n\n")
	for _, op := range g.ops {
		fmt.Fprintf(&b, `func bind%s(service any) (model.Call, bool) {
	s, ok := service.(interface {
		%s(ctx context.Context, in *%sInput) (*%sOutput, error)
	})
	if !ok {
		return nil, false
	}
	return model.Bind(s.%s), true
}

`, op, op, op, op, op)
	}
	return g.file([]string{"context", "github.com/cloudtwin/cloudtwin/cloud/model"}, b.Bytes())
}

// errors writes a constructor for each error that a chosen operation may answer.
func (g *generator) errors() ([]byte, error) {
	codes := map[string]int{}
	for _, op := range g.ops {
		for _, r := range g.api.Operations[op].Errors {
			s := g.api.Shapes[r.Shape]
			code, status := s.Error.Code, s.Error.HTTPStatus
			if code == "" {
				code = r.Shape
			}
			if status == 0 {
				status = http.StatusBadRequest
			}
			codes[code] = status
		}
	}
	if len(codes) == 0 {
		return nil, nil
	}
	var b bytes.Buffer
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		name := "Err" + exported(code)
		fmt.Fprintf(&b, `// %s is the service's error %s, HTTP status %d.
func %s(format string, args ...any) *model.Error {
	return model.Errorf(%q, %d, format, args...)
}

`, name, code, codes[code], name, code, codes[code])
	}
	return g.file([]string{"github.com/cloudtwin/cloudtwin/cloud/model"}, b.Bytes())
}

// enums writes the values of the enumerations as constants.
func (g *generator) enums() ([]byte, error) {
	var b bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(g.api.Shapes)) {
		s := g.api.Shapes[name]
		skip := len(s.Enum) == 0 || slices.Contains(g.service.open, name) || !g.inInput[name] && !g.inOutput[name]
		if skip {
			continue
		}
		fmt.Fprintf(&b, "// Values of %s.\nconst (\n", name)
		seen := map[string]bool{}
		for _, value := range s.Enum {
			id := exported(name) + exported(value)
			if seen[id] {
				return nil, fmt.Errorf("enum %s: two values are named %s", name, id)
			}
			seen[id] = true
			fmt.Fprintf(&b, "%s = %q\n", id, value)
		}
		b.WriteString(")\n\n")
	}
	if b.Len() == 0 {
		return nil, nil
	}
	return g.file(nil, b.Bytes())
}
