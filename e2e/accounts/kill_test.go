package accounts

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/cloudtwin/cloudtwin/e2e/twin"
)

const (
	writers = 4
	// The cloud is killed so long after the first write was acknowledged.
	shortest, longest = 5 * time.Millisecond, 150 * time.Millisecond
	seed              = 20131 // of the times
)

// written is what a round's writers were told is there.
type written struct {
	account string
	mu      sync.Mutex
	users   map[string]aws.Credentials // with their key; none yet when it is empty
	linked  map[string]bool            // profiles that hold the role of their name
}

var _ = Describe("A cloud that is killed during a stream of writes", Label(twin.NeedsSim), func() {
	DescribeTable("has every write that it acknowledged, and no half of one",
		func(ctx context.Context, kills int) {
			cloud := twin.StartCloud()
			random := rand.New(rand.NewPCG(seed, uint64(kills)))
			var rounds []*written
			acknowledged := 0
			for round := range kills {
				w := &written{users: map[string]aws.Credentials{}, linked: map[string]bool{}}
				id, root := account(ctx, cloud, fmt.Sprintf("round-%d", round))
				w.account = id
				w.writeUntilKilled(ctx, cloud, root, shortest+time.Duration(random.Int64N(int64(longest-shortest))))
				cloud.RestartCloud()
				w.check(ctx, cloud)
				acknowledged += len(w.users) + len(w.linked)
				rounds = append(rounds, w)
			}
			Expect(acknowledged).To(BeNumerically(">", kills), "writes that were acknowledged")
			for _, w := range rounds {
				w.checkUsers(ctx, w.client(ctx, cloud))
			}
		},
		Entry("6 times", 6),
		Entry("100 times", Label("slow"), 100),
	)
})

// writeUntilKilled has writers write until the cloud is killed, so long after the first acknowledgement.
func (w *written) writeUntilKilled(ctx context.Context, cloud *twin.Twin, root aws.Config, life time.Duration) {
	GinkgoHelper()
	client := iam.NewFromConfig(root)
	begun := make(chan struct{})
	var first sync.Once
	var running sync.WaitGroup
	for n := range writers {
		running.Go(func() {
			for k := 0; ; k++ {
				if w.write(ctx, client, fmt.Sprintf("w%d-%d", n, k)) != nil {
					return // killed
				}
				first.Do(func() { close(begun) })
			}
		})
	}
	Eventually(begun).WithTimeout(twin.ChangeTimeout).Should(BeClosed(), "the first write")
	time.Sleep(life) // the moment is the point: it must not depend on what is being written
	cloud.KillCloud()
	running.Wait()
}

// write makes a user with a key, and a profile with a role, and notes each that is acknowledged.
func (w *written) write(ctx context.Context, client *iam.Client, name string) error {
	n := aws.String(name)
	if _, err := client.CreateUser(ctx, &iam.CreateUserInput{UserName: n}); err != nil {
		return err
	}
	w.note(func() { w.users[name] = aws.Credentials{} })
	key, err := client.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: n})
	if err != nil {
		return err
	}
	w.note(func() {
		w.users[name] = aws.Credentials{AccessKeyID: aws.ToString(key.AccessKey.AccessKeyId),
			SecretAccessKey: aws.ToString(key.AccessKey.SecretAccessKey)}
	})
	if _, err := client.CreateRole(ctx, &iam.CreateRoleInput{RoleName: n, AssumeRolePolicyDocument: aws.String(
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},` +
			`"Action":"sts:AssumeRole"}]}`)}); err != nil {
		return err
	}
	if _, err := client.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{InstanceProfileName: n}); err != nil {
		return err
	}
	if _, err := client.AddRoleToInstanceProfile(ctx, &iam.AddRoleToInstanceProfileInput{
		InstanceProfileName: n, RoleName: n}); err != nil {
		return err
	}
	w.note(func() { w.linked[name] = true })
	return nil
}

func (w *written) note(do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	do()
}

func (w *written) client(ctx context.Context, cloud *twin.Twin) *iam.Client {
	GinkgoHelper()
	keys, err := cloud.Operator.AccountKeys(ctx, w.account)
	Expect(err).NotTo(HaveOccurred())
	return iam.NewFromConfig(cloud.As(keys.AccessKeyID, keys.SecretAccessKey, ""))
}

// check looks at all that the account has. A write of two records, a user's list of keys and the key, a profile and its
// role, is there as a whole or not at all, whether it was acknowledged or not.
func (w *written) check(ctx context.Context, cloud *twin.Twin) {
	GinkgoHelper()
	client := w.client(ctx, cloud)
	for _, name := range w.checkUsers(ctx, client) {
		keys, err := client.ListAccessKeys(ctx, &iam.ListAccessKeysInput{UserName: aws.String(name)})
		Expect(err).NotTo(HaveOccurred())
		for _, key := range keys.AccessKeyMetadata {
			used, err := client.GetAccessKeyLastUsed(ctx, &iam.GetAccessKeyLastUsedInput{AccessKeyId: key.AccessKeyId})
			Expect(err).NotTo(HaveOccurred(), "a key that is its user's alone")
			Expect(aws.ToString(used.UserName)).To(Equal(name))
		}
		known := w.users[name]
		if known.AccessKeyID == "" {
			continue
		}
		who, err := sts.NewFromConfig(cloud.As(known.AccessKeyID, known.SecretAccessKey, "")).
			GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
		Expect(err).NotTo(HaveOccurred(), "an acknowledged key of %s", name)
		Expect(aws.ToString(who.Arn)).To(HaveSuffix(":user/" + name))
	}
	held := map[string]bool{}
	profiles := iam.NewListInstanceProfilesPaginator(client, &iam.ListInstanceProfilesInput{})
	for profiles.HasMorePages() {
		page, err := profiles.NextPage(ctx)
		Expect(err).NotTo(HaveOccurred())
		for _, p := range page.InstanceProfiles {
			for _, role := range p.Roles {
				held[aws.ToString(p.InstanceProfileName)] = true
				back, err := client.ListInstanceProfilesForRole(ctx, &iam.ListInstanceProfilesForRoleInput{RoleName: role.RoleName})
				Expect(err).NotTo(HaveOccurred())
				Expect(back.InstanceProfiles).To(ContainElement(HaveField("InstanceProfileName", p.InstanceProfileName)),
					"the role's side of what the profile says")
			}
		}
	}
	roles := iam.NewListRolesPaginator(client, &iam.ListRolesInput{})
	for roles.HasMorePages() {
		page, err := roles.NextPage(ctx)
		Expect(err).NotTo(HaveOccurred())
		for _, role := range page.Roles {
			back, err := client.ListInstanceProfilesForRole(ctx, &iam.ListInstanceProfilesForRoleInput{RoleName: role.RoleName})
			Expect(err).NotTo(HaveOccurred())
			for _, p := range back.InstanceProfiles {
				Expect(held).To(HaveKey(aws.ToString(p.InstanceProfileName)), "the profile's side of what the role says")
			}
		}
	}
	for name := range w.linked {
		Expect(held).To(HaveKey(name), "an acknowledged profile with its role")
	}
}

// checkUsers returns the account's users, who are at least those that were acknowledged.
func (w *written) checkUsers(ctx context.Context, client *iam.Client) []string {
	GinkgoHelper()
	var names []string
	pages := iam.NewListUsersPaginator(client, &iam.ListUsersInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		Expect(err).NotTo(HaveOccurred())
		names = append(names, namesOf(page.Users)...)
	}
	for name := range w.users {
		Expect(names).To(ContainElement(name), "an acknowledged user")
	}
	return names
}

func namesOf(users []iamtypes.User) []string {
	names := make([]string, len(users))
	for i, u := range users {
		names[i] = aws.ToString(u.UserName)
	}
	return names
}
