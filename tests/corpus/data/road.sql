insert into road
select
    case n % 5 when 0 then 'I- ' || 580 + n % 7 when 1 then 'State Hwy ' || n % 20
        else chr(65 + n % 26) || (array['lder', 'irch', 'edar'])[n % 3 + 1] || ' St' end,
    ('[' || -122 - n % 100 / 100.0 || ',' || 37 + n % 83 / 100.0 || ',' ||
        -122 - n % 91 / 100.0 || ',' || 37 + n % 77 / 100.0 || ']')::path
from generate_series(1, 1000) as n;
