package replay

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/cloudtwin/cloudtwin/cloud"
	"github.com/cloudtwin/cloudtwin/cloud/journal"
	"github.com/cloudtwin/cloudtwin/cloud/operator"
)

// Operated is something that an operator had the cloud do beside its API; one of its fields is set.
type Operated struct {
	Change  *operator.Change
	Account *Account // one that was made
	Keys    *Account // one whose root user's keys were given out
}

// Account is an account that an operator made, or asked for the keys of.
type Account struct {
	ID, Name string
	// AccessKeyID is of the key that was given.
	AccessKeyID string
}

func (o *Operated) String() string {
	switch {
	case o.Account != nil:
		return "the operator's account " + o.Account.ID
	case o.Keys != nil:
		return "the operator's question for the keys of account " + o.Keys.ID
	}
	return "the operator's " + o.Change.Verb
}

// operatedOf makes a step of an event; nil when what the operator asked for was refused, and nothing changed.
func operatedOf(ev *journal.Event, step *Step) (*Step, error) {
	account := &Account{ID: ev.Subject, Name: ev.Attributes["name"], AccessKeyID: ev.Attributes["accessKeyId"]}
	switch ev.Kind {
	case cloud.EventAccountCreated:
		step.Operated = &Operated{Account: account}
		return step, nil
	case cloud.EventKeysGiven:
		if account.AccessKeyID == "" { // an older cloud's, which did not tell
			return nil, nil //nolint:nilnil // nothing was done to the cloud
		}
		step.Operated = &Operated{Keys: account}
		return step, nil
	}
	change, done, err := operator.ChangeOf(ev)
	if err != nil {
		return nil, fmt.Errorf("%w: the parameters of event %d: %w", ErrRecording, ev.Seq, err)
	}
	if !done {
		return nil, nil //nolint:nilnil // see above
	}
	step.Operated = &Operated{Change: &change}
	return step, nil
}

// operate does what an operator did, through the same door.
func (p *player) operate(ctx context.Context, step *Step) error {
	door := operator.NewClient(p.world.cfg.Layout.OperatorSocket())
	err := p.operateBy(ctx, door, step.Operated)
	if refusal, ok := errors.AsType[*operator.Refusal](err); ok {
		p.skip(step, step.Operated.String(), refusal.Message)
		return nil
	}
	return err
}

func (p *player) operateBy(ctx context.Context, door *operator.Client, o *Operated) error {
	switch {
	case o.Account != nil:
		_, err := door.CreateAccount(ctx, o.Account.Name, o.Account.ID)
		return err
	case o.Keys != nil:
		keys, err := door.AccountKeys(ctx, o.Keys.ID)
		if err == nil {
			p.caller.keys[o.Keys.AccessKeyID] = credential{id: keys.AccessKeyID, secret: keys.SecretAccessKey}
		}
		return err
	}
	parameters := url.Values{}
	for name, values := range o.Change.Parameters {
		for _, value := range values {
			parameters.Add(name, p.here(value))
		}
	}
	return door.Do(ctx, operator.Change{Verb: o.Change.Verb, Parameters: parameters})
}

// here gives a text the new cloud's identifiers, those of load balancers' VMs included, which no call makes.
func (p *player) here(text string) string {
	return identifier.ReplaceAllStringFunc(p.replaced.text(text), func(id string) string {
		if name := p.recording.trace.names.of[id]; strings.HasPrefix(name, vmOf) {
			if now := p.live.named(name); now != "" {
				return now
			}
		}
		return id
	})
}

// named is the identifier that has a name in the replay; empty when none has it yet.
func (l *live) named(name string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, its := range l.trace.names.of {
		if its == name {
			return id
		}
	}
	return ""
}
