package model

// Ptr returns a pointer to a copy of v, for optional members of inputs and outputs.
func Ptr[T any](v T) *T { return &v }

// Val returns what p points to, or the zero value of T when p is nil (the member was not sent).
func Val[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
