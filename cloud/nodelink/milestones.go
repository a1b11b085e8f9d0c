package nodelink

// Of an instance's milestones the first and the last are kept, on the node and in the cloud by the same rule: a
// node tells all that it remembers whenever it connects, and what the cloud has dropped is dropped there too.
const (
	KeepFirst = 16
	KeepLast  = 48
)

// MergeMilestones adds to old what is new in told, and drops what is too much. same says whether two are one that
// was told twice. old is not changed; added holds what was new, in order.
func MergeMilestones[M any](old, told []M, same func(a, b M) bool) (merged, added []M) {
	merged = old[:len(old):len(old)]
	for _, m := range told {
		known := false
		for i := range merged {
			if known = same(merged[i], m); known {
				break
			}
		}
		if !known {
			merged = append(merged, m)
			added = append(added, m)
		}
	}
	if drop := len(merged) - KeepFirst - KeepLast; drop > 0 {
		kept := append(make([]M, 0, KeepFirst+KeepLast), merged[:KeepFirst]...)
		merged = append(kept, merged[KeepFirst+drop:]...)
	}
	return merged, added
}
