package servo

import "encoding/xml"

// List is a list as the query protocol writes it: an element that is there even when nothing is in it, with one
// member each.
type List[T any] []T

type members[T any] struct {
	Member []T `xml:"member"`
}

// MarshalXML implements xml.Marshaler.
func (l List[T]) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	return e.EncodeElement(members[T]{Member: l}, start)
}

// UnmarshalXML implements xml.Unmarshaler. An empty list is nil.
func (l *List[T]) UnmarshalXML(d *xml.Decoder, start xml.StartElement) error {
	var m members[T]
	if err := d.DecodeElement(&m, &start); err != nil {
		return err
	}
	*l = append(*l, m.Member...)
	return nil
}
