package iam

// KeepCaches has a closed service keep records in memory as a running one does. Nothing but the caller touches it then,
// so that its memory can be looked at.
func (s *Service) KeepCaches() {
	for _, keep := range []func(bool){
		s.accounts.cache.setLive, s.users.cache.setLive, s.roles.cache.setLive, s.profiles.cache.setLive,
		s.accessKeys.cache.setLive, s.certificates.cache.setLive,
	} {
		keep(true)
	}
}
