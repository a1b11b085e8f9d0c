package model

import (
	"context"
	"fmt"
	"net/url"
	"reflect"
)

// Protocol is a way to write parameters and answers.
type Protocol int

// The protocols of the services here. ProtocolQuery names list entries NAME.member.N; ProtocolEC2 names them NAME.N
// and writes answers without a result wrapper.
const (
	ProtocolQuery Protocol = iota
	ProtocolEC2
)

// Service is what the model says about a service as a whole.
type Service struct {
	Name      string // the prefix of its IAM actions: iam, sts, elasticloadbalancing, ec2
	Version   string // API version, YYYY-MM-DD
	Namespace string // XML namespace of its answers in that version
	Protocol  Protocol
}

// Call runs one operation on an input of the operation's own type and returns a pointer to its output.
type Call func(ctx context.Context, input any) (output any, err error)

// Operation is one operation of a service's model. The generated tables make them.
type Operation struct {
	Name string
	// ResultWrapper is the element around the output, empty for operations without output and in ProtocolEC2.
	ResultWrapper string
	// NewInput returns a pointer to an empty input.
	NewInput func() any
	// Bind finds the method of that name and type on a service; false when there is none.
	Bind func(service any) (Call, bool)
}

// Bind turns an operation's method into a Call.
func Bind[I, O any](method func(context.Context, *I) (*O, error)) Call {
	return func(ctx context.Context, input any) (any, error) {
		in, ok := input.(*I)
		if !ok {
			return nil, fmt.Errorf("call operation: input is %T, want %T", input, in)
		}
		out, err := method(ctx, in)
		if err != nil {
			return nil, err
		}
		if out == nil {
			out = new(O)
		}
		return out, nil
	}
}

// Handler is an operation that a service implements, with its codec. The zero Handler is not usable; NewHandlers
// makes them.
type Handler struct {
	Operation Operation
	service   Service
	codec     *codec
	call      Call
	size      *answerSize
}

// NewHandlers returns the operations that service implements, by name. A method that has an operation's name but not
// its type is a mistake in the program, not a request to serve less: NewHandlers panics and says which.
func NewHandlers(s Service, operations []Operation, service any) map[string]Handler {
	c := newCodec(s.Protocol)
	handlers := map[string]Handler{}
	for _, op := range operations {
		call, ok := op.Bind(service)
		if !ok {
			if m, found := reflect.TypeOf(service).MethodByName(op.Name); found {
				panic(fmt.Sprintf("model: %T.%s is %s, which is not the operation's type", service, op.Name, m.Type))
			}
			continue
		}
		handlers[op.Name] = Handler{Operation: op, service: s, codec: c, call: call, size: new(answerSize)}
	}
	return handlers
}

// Decode reads the operation's input from a form and checks it against the service's model. Parameters that the
// model does not know are ignored. The error is an *Error with the service's own code.
func (h Handler) Decode(form url.Values) (any, error) {
	in := h.Operation.NewInput()
	if err := h.codec.decode(form, in); err != nil {
		return nil, err
	}
	if err := h.codec.validate(in); err != nil {
		return nil, err
	}
	return in, nil
}

// Call runs the operation on an input that Decode returned.
func (h Handler) Call(ctx context.Context, input any) (any, error) { return h.call(ctx, input) }

// Names returns the names of all operations in the model, implemented or not, in the table's order.
func Names(operations []Operation) []string {
	names := make([]string, 0, len(operations))
	for _, op := range operations {
		names = append(names, op.Name)
	}
	return names
}
