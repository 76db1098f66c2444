// SPDX-License-Identifier: GPL-2.0-only
#include "sentences.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <system_error>

namespace nemesis {

namespace {

using What = Attempt::What;

std::string wanted(const Attempt& attempt, const Domains& domains) {
  const std::string master = domains.title(attempt.master);
  const std::string member = domains.title(attempt.member);
  switch (attempt.what) {
    case What::kAdd:
      return member + " does not join " + master;
    case What::kRemove:
      return member + " does not leave " + master;
    case What::kDestroy:
      return "The group of " + master + " is not dissolved";
    case What::kSet:
      return "The weight of " + member + " in the group of " + master + " stays";
    case What::kGet:
      return "The group of " + master + " cannot be looked at";
  }
  return {};
}

/// The other group that stands in the way.
std::string busy(const Attempt& attempt, const Domains& domains, Host& host) {
  if (const auto group = host.group(attempt.member); group && group->master != attempt.master) {
    if (group->master == attempt.member)
      return domains.title(attempt.member) + " is itself the master of a group";
    return "it is a member of the group of " + domains.title(group->master) + "; remove it there";
  }
  if (const auto group = host.group(attempt.master); group && group->master != attempt.master) {
    return domains.title(attempt.master) + " is a member of the group of " +
           domains.title(group->master) + ", and so cannot be a master; name that one";
  }
  return "one of them is being moved to another cpupool; try again";
}

std::string pools(const Attempt& attempt, const Domains& domains) {
  const Domain* master = domains.find(attempt.master);
  const Domain* member = domains.find(attempt.member);
  const std::string where =
      master == nullptr || member == nullptr
          ? ""
          : " (" + std::to_string(master->pool) + " and " + std::to_string(member->pool) + ")";
  return "they are in different cpupools" + where + "; `xl cpupool-migrate` moves one";
}

std::string scheduler(const Attempt& attempt, const Domains& domains) {
  const Domain* master = domains.find(attempt.master);
  const std::string name =
      master == nullptr || master->scheduler.empty() ? "" : ", " + master->scheduler + ",";
  return "the scheduler of its cpupool" + name +
         " has no scheduling domains, or they were left out of this hypervisor "
         "(CONFIG_SCHED_DOMAINS); credit and credit2 have them";
}

std::string missing(const Attempt& attempt, const Domains& domains) {
  if (attempt.what == What::kRemove || attempt.what == What::kSet) return "it is not in that group";
  return domains.title(attempt.master) + " has no group";
}

std::string denied(int errnum, Host& host) {
  if (errnum == EACCES && !host.interface_matches()) {
    return "this nemesis was built for another version of Xen than the " + host.xen_version() +
           " that runs here; use that one's";
  }
  return "that is not permitted: root in dom0 may, and with FLASK only where the policy has "
         "domain2 { scheddom }";
}

std::string reason(int errnum, const Attempt& attempt, const Domains& domains, Host& host) {
  switch (errnum) {
    case ESRCH:
      return "there is no such domain any more, or it is dying";
    case EINVAL:
      return attempt.what == What::kSet ? "weights are 1 to 65535"
                                        : "a master cannot be its own member";
    case EOPNOTSUPP:
      return scheduler(attempt, domains);
    case EXDEV:
      return pools(attempt, domains);
    case EEXIST:
      return "it is a member already";
    case EBUSY:
      return busy(attempt, domains, host);
    case ENOENT:
      return missing(attempt, domains);
    case ENOSYS:
      return "this hypervisor (Xen " + host.xen_version() +
             ") has no scheduling domains; boot one that has";
    case EPERM:
    case EACCES:
      return denied(errnum, host);
    default:
      return std::generic_category().message(errnum);
  }
}

}  // namespace

std::string sentence(int errnum, const Attempt& attempt, const Domains& domains, Host& host) {
  return wanted(attempt, domains) + ": " + reason(errnum, attempt, domains, host) + ".";
}

int exit_status(int errnum) {
  switch (errnum) {
    case 0:
      return kExitDone;
    case ENOSYS:
    case EOPNOTSUPP:
      return kExitNotSupported;
    case EPERM:
    case EACCES:
      return kExitNotPermitted;
    default:
      return kExitRefused;
  }
}

std::string errno_name(int errnum) {
  static const std::map<int, std::string> kNames = {
      {ESRCH, "ESRCH"},   {EPERM, "EPERM"},   {EACCES, "EACCES"}, {EINVAL, "EINVAL"},
      {EXDEV, "EXDEV"},   {EEXIST, "EEXIST"}, {EBUSY, "EBUSY"},   {EOPNOTSUPP, "EOPNOTSUPP"},
      {ENOENT, "ENOENT"}, {ENOSYS, "ENOSYS"}, {ENOMEM, "ENOMEM"}, {ENOBUFS, "ENOBUFS"}};
  const auto found = kNames.find(errnum);
  return found == kNames.end() ? std::to_string(errnum) : found->second;
}

}  // namespace nemesis
