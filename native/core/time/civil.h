// The proleptic Gregorian calendar as arithmetic: days since 1970-01-01 and back.
#pragma once
#include <cstdint>

namespace hv {

struct CivilDate {
  std::int64_t year;
  unsigned month, day;  // from 1
};

// The year is counted from March, so that the leap day ends it; 400 years are one cycle of
// 146,097 days, and 719,468 days lie between 0000-03-01 and 1970-01-01.
constexpr std::int64_t days_of(const CivilDate& date) {
  const std::int64_t year = date.month <= 2 ? date.year - 1 : date.year;
  const std::int64_t cycle = (year >= 0 ? year : year - 399) / 400;
  const std::int64_t in_cycle = year - cycle * 400;
  const std::int64_t month = (date.month + 9) % 12;
  const std::int64_t day = (153 * month + 2) / 5 + date.day - 1;
  return cycle * 146'097 + in_cycle * 365 + in_cycle / 4 - in_cycle / 100 + day - 719'468;
}

constexpr CivilDate civil_of(std::int64_t days) {
  days += 719'468;
  const std::int64_t cycle = (days >= 0 ? days : days - 146'096) / 146'097;
  const std::int64_t day_of_cycle = days - cycle * 146'097;
  const std::int64_t year = (day_of_cycle - day_of_cycle / 1'460 + day_of_cycle / 36'524 -
                             day_of_cycle / 146'096) / 365;
  const std::int64_t day = day_of_cycle - (365 * year + year / 4 - year / 100);
  const std::int64_t month = (5 * day + 2) / 153;
  const auto calendar_month = static_cast<unsigned>(month < 10 ? month + 3 : month - 9);
  return {year + cycle * 400 + (calendar_month <= 2 ? 1 : 0), calendar_month,
          static_cast<unsigned>(day - (153 * month + 2) / 5 + 1)};
}

static_assert(days_of({1970, 1, 1}) == 0 && days_of({2000, 3, 1}) == 11'017);
static_assert(civil_of(11'016).day == 29 && civil_of(-1).year == 1969);

}  // namespace hv
