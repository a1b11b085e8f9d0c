package model

// The worlds that are explored. Each has what one kind of trouble needs; deep makes them larger.
func worlds(deep bool) map[string]World {
	all := map[string]World{
		// Listeners change, LBVMs end and keys are replaced while requests are answered.
		"races": {
			Balancers: 1, Machines: 2, Certificates: 2, Tasks: 1, Requests: 1,
			Budget: Budget{Calls: 2, Ends: 1, Uploads: 2, Requests: 1}, Begin: [2]set{of(0)},
		},
		// Calls and reconciles of one load balancer at the same time.
		"concurrent": {
			Balancers: 1, Machines: 2, Certificates: 2, Tasks: 2, Requests: 1,
			Budget: Budget{Calls: 2, Ends: 1, Requests: 1}, Begin: [2]set{of(0)},
		},
		// Steps fail and elb's process ends anywhere.
		"crashes": {
			Balancers: 1, Machines: 3, Certificates: 2, Tasks: 2, Requests: 1,
			Budget: Budget{Calls: 2, Faults: 1, Requests: 1}, Begin: [2]set{of(0)},
		},
		// LBVMs that were launched and not noted down, and load balancers that follow one of their name.
		"strays": {
			Balancers: 1, Machines: 2, Certificates: 1, Tasks: 2, Requests: 1, Bare: true,
			Budget: Budget{Calls: 2, Faults: 1, Requests: 1}, Begin: [2]set{of(0)},
		},
		// The certificates have one name under two paths.
		"one name": {
			Balancers: 1, Machines: 1, Certificates: 2, Tasks: 2, Requests: 1, OneName: true,
			Budget: Budget{Calls: 2, Faults: 1, Uploads: 2, Requests: 1}, Begin: [2]set{of(0)},
		},
		// A load balancer's LBVM and whoever serves another one.
		"strangers": {
			Balancers: 2, Machines: 3, Certificates: 2, Tasks: 1, Requests: 1,
			Budget: Budget{Calls: 1, Ends: 1, Requests: 1}, Begin: [2]set{of(0), of(1)},
		},
		// LBCERTs are renewed, IAMCERT is rotated and the one before retired, by itself or by force.
		"identities": {
			Balancers: 1, Machines: 2, Certificates: 1, Tasks: 1, Requests: 1,
			Budget: Budget{Ends: 1, Requests: 1, Renewals: 2, Rotates: 1}, Begin: [2]set{of(0)},
		},
		// Requests are kept back, doubled and sent again.
		"copies": {
			Balancers: 1, Machines: 2, Certificates: 1, Tasks: 1, Requests: 2,
			Budget: Budget{Calls: 1, Requests: 1, Resends: 2, Ticks: 2}, Begin: [2]set{of(0)},
		},
	}
	for name, w := range all {
		w.Name, w.Rules = name, AllRules()
		if deep {
			w.Budget.Calls++
			w.Budget.Ends++
		}
		all[name] = w
	}
	return all
}
