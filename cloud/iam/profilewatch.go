package iam

import (
	"context"
	"strings"
)

// ProfileChange tells that an instance profile was made, changed or deleted. Name is in lower case, as names are unique
// without regard to it.
type ProfileChange struct{ AccountID, Name string }

// WatchInstanceProfiles tells of every instance profile that changes from now on, whichever process changes it: what
// InstanceProfile answers after that is as it is then. The channel is closed when ctx ends or the watch breaks; whoever
// watches again has to look at all profiles that it cares for.
func (s *Service) WatchInstanceProfiles(ctx context.Context) (<-chan ProfileChange, error) {
	keys, err := s.profiles.WatchKeys(ctx)
	if err != nil {
		return nil, err
	}
	changes := make(chan ProfileChange)
	go func() {
		defer close(changes)
		for key := range keys {
			// This watch may be ahead of the one that keeps the cache.
			s.profiles.cache.drop(key)
			account, name, _ := strings.Cut(key, "/")
			select {
			case changes <- ProfileChange{account, name}:
			case <-ctx.Done():
				return
			}
		}
	}()
	return changes, nil
}
