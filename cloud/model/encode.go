package model

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"sync/atomic"
)

// largestExpected bounds the room that is made for an answer before its size is known, in bytes: one with a thousand
// instances has about 1.5 MB.
const largestExpected = 4 << 20

// answerSize is how long an operation's last answer was, in bytes. The next one is mostly about as long.
type answerSize struct{ atomic.Int64 }

// room returns a buffer for the next answer. It is not used again: some answers hold secrets, and whoever has one owns
// it.
func (s *answerSize) room() []byte {
	const least = 512
	last := int(s.Load())
	return make([]byte, 0, min(max(last+last/16, least), largestExpected))
}

// Encode writes the answer's XML. version is the API version that the client asked for (EC2 answers in that
// version's namespace); empty means the model's own. An output that is none of the model's types is an error.
func (h Handler) Encode(output any, version, requestID string) ([]byte, error) {
	o, ok := output.(Output)
	if !ok {
		return nil, fmt.Errorf("write the answer of %s: %T is no type of the service's model", h.Operation.Name, output)
	}
	w := newWriter(h.service.Protocol, h.size.room())
	h.write(w, o, version, requestID)
	h.size.Store(int64(len(w.text)))
	return w.text, nil
}

func (h Handler) write(w *Writer, output Output, version, requestID string) {
	root := h.Operation.Name + "Response"
	if w.protocol == ProtocolEC2 {
		w.raw(xml.Header)
		w.root(root, ec2Namespace(h.service, version))
		w.String("requestId", &requestID)
		output.WriteXML(w, true)
		w.closes(root)
		return
	}
	w.root(root, h.service.Namespace)
	if wrapper := h.Operation.ResultWrapper; wrapper != "" {
		w.opens(wrapper)
		output.WriteXML(w, true)
		w.closes(wrapper)
	}
	w.opens("ResponseMetadata")
	w.String("RequestId", &requestID)
	w.closes("ResponseMetadata")
	w.closes(root)
}

// ec2Namespace is the namespace of the version asked for, so that clients that were built for an older API version
// find their elements. It ends in a slash.
func ec2Namespace(s Service, version string) string {
	return "http://ec2.amazonaws.com/doc/" + cmp.Or(version, s.Version) + "/"
}
